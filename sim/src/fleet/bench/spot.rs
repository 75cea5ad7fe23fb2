//! The part of the benchmark with recorded spot capacity: every market with every load.

use std::fmt::Write as _;
use std::path::Path;

use super::{Result, ours};
use crate::fleet::cases::{Case, MARKETS};
use crate::fleet::catalog::{PolicyName, Values};
use crate::fleet::job::{HOUR_MS, Millis, Workload};
use crate::fleet::parallel;
use crate::fleet::score::Outcome;
use crate::fleet::suite::{self, Extent, Run};
use crate::fleet::world::Setup;

/// The usual price of on-demand over that of spot.
const RATIO: f64 = 2.45;
/// The other prices that are looked at.
const RATIOS: [f64; 3] = [1.8, RATIO, 3.0];
/// Hours that jobs may wait, where they may.
const HOURS: [i64; 2] = [1, 4];
/// How long capacity goes on after the end of a load: longer than what came last waits and runs.
const AFTER: Millis = 24 * HOUR_MS;

/// A market and a load.
struct Pair<'a> {
    market: &'static str,
    workload: &'a Workload,
    /// On-demand at 1 an hour, and spot as it was to be had, by ratio of prices and wait.
    setup: Setup,
    /// What on-demand alone comes to.
    only: &'a Outcome,
}

impl Pair<'_> {
    /// The same at another ratio of prices and another wait.
    fn at(&self, ratio: f64, wait_s: i64) -> Setup {
        let mut setup = self.setup.clone();
        for offering in setup.offerings.iter_mut().filter(|offering| offering.spot) {
            offering.price = 1.0 / ratio;
        }
        for class in &mut setup.classes {
            class.max_wait = wait_s * 1000;
        }
        setup
    }

    fn cost(&self, outcome: &Outcome) -> f64 {
        outcome.usage.cost / self.only.usage.cost
    }
}

fn kept(outcome: &Outcome) -> String {
    format!("{:.2} %", outcome.attainment * 100.0)
}

/// All of it, as sections of the page.
pub(in crate::fleet) fn sections(folder: &Path, cases: &[Case]) -> Result<String> {
    let simple = Setup::simple(60, 180);
    let only = parallel::map(cases, |case| ours(&simple, &case.workload));
    let mut pairs = Vec::new();
    for market in &MARKETS {
        for (Case { workload, .. }, only) in cases.iter().zip(&only) {
            let mut setup = simple.clone();
            let end = workload.end + AFTER;
            setup.offerings.extend(market.offerings(folder, (1.0 / RATIO, end))?);
            pairs.push(Pair { market: market.name, workload, setup, only });
        }
    }
    Ok(format!(
        "## With spot\n\n{}\n## Other prices of spot\n\n{}\n## Spot, and jobs that may wait\n\n{}\n",
        at_60_s(&pairs),
        prices(&pairs),
        patient(&pairs)
    ))
}

/// The default and the tuned run of a policy.
fn both(
    pair: &Pair<'_>,
    (setup, workload): (&Setup, &Workload),
    policy: PolicyName,
) -> (Outcome, Outcome) {
    let runs = suite::grid((setup, workload), &[(policy, Values::default())], Extent::Grid);
    let default = runs.iter().find(|run| run.is_default).or_else(|| runs.first());
    let best = suite::tuned(setup, runs.iter());
    let outcome = |run: Option<&Run>| match run {
        Some(run) => run.outcome.clone(),
        // A grid has its defaults at least.
        None => pair.only.clone(),
    };
    (outcome(default), outcome(best))
}

/// Waits of 60 s, against on-demand only.
fn at_60_s(pairs: &[Pair<'_>]) -> String {
    let mut table = String::from(
        "On-demand costs 1 an hour, spot 1/2.45; capacity as recorded, two minutes of notice. Costs are over those of Stoker on on-demand alone; of the others as their documents have them, and tuned in hindsight.\n\n| capacity | trace | on-demand only | with spot | cost ratio | SpotHedge | SpotHedge, tuned | SkyServe, tuned | Can't Be Late | Can't Be Late, tuned |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    table.extend(parallel::map(pairs, |pair| {
        let mixed = ours(&pair.setup, pair.workload);
        let both = |policy| both(pair, (&pair.setup, pair.workload), policy);
        let (hedge, hedge_tuned) = both(PolicyName::Spothedge);
        let (_, serve_tuned) = both(PolicyName::Skyserve);
        let (late, late_tuned) = both(PolicyName::CantBeLate);
        let brief = |outcome: &Outcome| format!("{}, {:.3}", kept(outcome), pair.cost(outcome));
        let others = [hedge, hedge_tuned, serve_tuned, late, late_tuned];
        format!(
            "| {} | {} | {} for {:.0} | {} for {:.0} | {:.3} | {} |\n",
            pair.market,
            pair.workload.name,
            kept(pair.only),
            pair.only.usage.cost,
            kept(&mixed),
            mixed.usage.cost,
            pair.cost(&mixed),
            others.each_ref().map(brief).join(" | "),
        )
    }));
    table
}

/// Cheaper and dearer spot.
fn prices(pairs: &[Pair<'_>]) -> String {
    let mut table = String::from(
        "Share in time and cost over that of on-demand only, by the price of on-demand over that of spot.\n\n| capacity | trace | 1.8 | 2.45 | 3 |\n|---|---|---|---|---|\n",
    );
    table.extend(parallel::map(pairs, |pair| {
        let mut row = format!("| {} | {} |", pair.market, pair.workload.name);
        for ratio in RATIOS {
            let mixed = ours(&pair.at(ratio, 60), pair.workload);
            let _ = write!(row, " {}, {:.3} |", kept(&mixed), pair.cost(&mixed));
        }
        row + "\n"
    }));
    table
}

/// The load, and after it the time in which its last jobs wait as long as they may and run: what is put off is done and
/// paid for like the rest.
fn to_its_end(workload: &Workload, wait: Millis) -> Workload {
    let longest = workload.jobs.iter().map(|job| job.service).max().unwrap_or(0);
    workload.clone().and_then_nothing_for(wait + longest)
}

/// Jobs that may wait for hours, where "Can't Be Late" is at home.
fn patient(pairs: &[Pair<'_>]) -> String {
    let mut table = String::from(
        "All jobs may wait as long as is said, and a run goes on until the last has. Share in time for dollars, at 1 for on-demand and 1/2.45 for spot.\n\n| capacity | trace | wait | Stoker | Can't Be Late | Can't Be Late, tuned | SpotHedge, tuned |\n|---|---|---|---|---|---|---|\n",
    );
    table.extend(parallel::map(pairs, |pair| {
        let mut rows = String::new();
        for hours in HOURS {
            let setup = pair.at(RATIO, hours * 3600);
            let workload = to_its_end(pair.workload, hours * HOUR_MS);
            let (late, late_tuned) = both(pair, (&setup, &workload), PolicyName::CantBeLate);
            let (_, hedge) = both(pair, (&setup, &workload), PolicyName::Spothedge);
            let runs = [ours(&setup, &workload), late, late_tuned, hedge];
            let _ = write!(rows, "| {} | {} | {hours} h |", pair.market, pair.workload.name);
            for run in &runs {
                let _ = write!(rows, " {} for {:.0} |", kept(run), run.usage.cost);
            }
            rows.push('\n');
        }
        rows
    }));
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::job::Job;

    #[test]
    fn what_comes_last_and_may_wait_is_done_and_paid_for() {
        let job = |n| Job { at: HOUR_MS - 1 - n, service: 600_000, class: 0, model: 0 };
        let workload = Workload::new("late", (0..20).map(job).collect(), HOUR_MS);
        let setup = Setup::simple(4 * 3600, 180);
        let cut = ours(&setup, &workload);
        assert!(cut.starts.iter().all(Option::is_none), "nothing is there when they come");
        let whole = ours(&setup, &to_its_end(&workload, 4 * HOUR_MS));
        assert!(whole.attainment > 0.99, "{whole:?}");
        // Twenty times ten minutes of machines that cost 1 an hour.
        assert!(whole.usage.cost >= 20.0 / 6.0 - 1e-9, "{whole:?}");
    }
}
