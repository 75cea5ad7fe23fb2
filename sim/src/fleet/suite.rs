//! Every policy on a workload, with its document's settings and with those that a grid finds in hindsight, and what
//! perfect foresight would have paid.

use std::fmt::Write as _;

use clap::ValueEnum as _;

use crate::fleet::baseline::fixed::Static;
use crate::fleet::catalog::{Known, PolicyName, Values};
use crate::fleet::clairvoyant;
use crate::fleet::job::{Workload, count, seconds, whole};
use crate::fleet::parallel;
use crate::fleet::score::Outcome;
use crate::fleet::world::{self, Setup};

/// The fewest instances, always there, that would have kept every class's promise on this very workload.
pub fn fewest(setup: &Setup, workload: &Workload) -> usize {
    let (mut low, mut high) = (1, setup.max_instances.max(1));
    while low < high {
        let middle = usize::midpoint(low, high);
        let kept = world::run(setup, workload, &mut Static(middle)).keeps(setup);
        if kept { high = middle } else { low = middle + 1 }
    }
    low
}

/// The load of the first half's busiest five minutes times a factor, in machines: what people buy who look back.
pub fn last_peak(setup: &Setup, workload: &Workload, factor: f64) -> usize {
    let half = workload.part(0, workload.end / 2);
    let told = setup.offerings.iter().position(|offering| !offering.spot).unwrap_or(0);
    let Some(offering) = setup.offerings.get(told) else { return 1 };
    let mut busiest = 0.0_f64;
    let jobs: Vec<_> = half.jobs.iter().enumerate().collect();
    for bin in jobs.chunk_by(|(_, a), (_, b)| a.at / 300_000 == b.at / 300_000) {
        let work: f64 = bin.iter().map(|job| offering.alone(*job, setup.seed)).sum();
        busiest = busiest.max(work / 300.0);
    }
    whole(busiest * factor).max(1)
}

/// One policy with one setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub policy: PolicyName,
    pub values: Values,
    /// Whether these are the settings of its document.
    pub is_default: bool,
    pub outcome: Outcome,
}

impl Run {
    /// What it is called in tables.
    pub fn name(&self) -> String {
        match self.policy {
            PolicyName::LastPeak => format!("last peak, {}", self.outcome.policy),
            _ => self.outcome.policy.clone(),
        }
    }
}

/// Why a run stands in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Default,
    Tuned,
    /// The documents' settings are the best of the grid as well.
    Both,
    /// Of a grid in which nothing keeps the promise, the one that comes nearest.
    Nearest,
}

impl Role {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Tuned => "tuned",
            Self::Both => "default and tuned",
            Self::Nearest => "nearest",
        }
    }
}

/// Which settings a policy runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extent {
    /// Its document's, or those that are told.
    #[default]
    Told,
    /// These, and those of its grid.
    Grid,
}

/// Runs a policy with its default settings, those that are told instead counting, and with each of its grid if that is asked for.
pub fn grid(
    (setup, workload): (&Setup, &Workload),
    policies: &[(PolicyName, Values)],
    extent: Extent,
) -> Vec<Run> {
    let known = Known::of(setup, workload);
    let mut tasks = Vec::new();
    for (policy, told) in policies {
        tasks.push((*policy, policy.defaults(&known).with(told), true));
        if extent == Extent::Grid {
            tasks.extend(policy.grid(&known).into_iter().map(|values| (*policy, values, false)));
        }
    }
    parallel::map(&tasks, |(policy, values, is_default)| Run {
        policy: *policy,
        values: values.clone(),
        is_default: *is_default,
        outcome: world::run(setup, workload, policy.make(values, setup, workload).as_mut()),
    })
}

/// Of a policy's runs: the cheapest that keeps the promise, or if none does, the one that comes nearest.
pub fn tuned<'a>(setup: &Setup, runs: impl Iterator<Item = &'a Run> + Clone) -> Option<&'a Run> {
    let cost = |run: &&Run| run.outcome.usage.cost;
    let keeps = runs.clone().filter(|run| run.outcome.keeps(setup));
    keeps.min_by(|a, b| cost(a).total_cmp(&cost(b))).or_else(|| {
        runs.max_by(|a, b| {
            let by_cost = cost(b).total_cmp(&cost(a));
            a.outcome.attainment.total_cmp(&b.outcome.attainment).then(by_cost)
        })
    })
}

/// All of it on one workload.
#[derive(Debug)]
pub struct Comparison {
    /// By cost.
    pub runs: Vec<Run>,
    setup: Setup,
    /// Cost and launches of the schedule made with perfect foresight.
    pub clairvoyant: clairvoyant::Schedule,
}

impl Comparison {
    pub fn run(setup: &Setup, workload: &Workload) -> Self {
        // The policies of spot are nothing new where there is none.
        let has_spot = setup.offerings.iter().any(|offering| offering.spot);
        let is_of_spot =
            |policy: &PolicyName| matches!(policy, PolicyName::Spothedge | PolicyName::CantBeLate);
        let all = PolicyName::value_variants().iter();
        let policies: Vec<_> = all
            .filter(|policy| has_spot || !is_of_spot(policy))
            .map(|policy| (*policy, Values::default()))
            .collect();
        Self::of(setup, workload, &policies)
    }

    /// The same of some policies.
    pub fn of(setup: &Setup, workload: &Workload, policies: &[(PolicyName, Values)]) -> Self {
        let mut runs = grid((setup, workload), policies, Extent::Grid);
        runs.sort_by(|a, b| a.outcome.usage.cost.total_cmp(&b.outcome.usage.cost));
        let clairvoyant = clairvoyant::schedule(setup, workload);
        Self { runs, setup: setup.clone(), clairvoyant }
    }

    pub fn ours(&self) -> Option<&Outcome> {
        let ours = self.runs.iter().find(|run| run.policy == PolicyName::Stoker);
        ours.map(|run| &run.outcome)
    }

    /// The cheapest of the others that kept at least this share of promises.
    pub fn best_other(&self, share: f64) -> Option<&Outcome> {
        let others = self.runs.iter().filter(|run| run.policy != PolicyName::Stoker);
        others.map(|run| &run.outcome).find(|outcome| outcome.attainment >= share)
    }

    /// The run of a policy with its document's settings.
    pub fn default_of(&self, policy: PolicyName) -> Option<&Run> {
        self.runs.iter().find(|run| run.policy == policy && run.is_default)
    }

    /// The run of a policy that hindsight takes from its grid.
    pub fn tuned_of(&self, policy: PolicyName) -> Option<&Run> {
        tuned(&self.setup, self.runs.iter().filter(|run| run.policy == policy))
    }

    /// Each policy's default and tuned run, by cost.
    fn listed(&self) -> Vec<(&Run, Role)> {
        let mut listed = Vec::new();
        for policy in PolicyName::value_variants() {
            let (default, best) = (self.default_of(*policy), self.tuned_of(*policy));
            let keeps = best.is_some_and(|best| best.outcome.keeps(&self.setup));
            let tuned = if keeps { Role::Tuned } else { Role::Nearest };
            match (default, best) {
                (Some(default), Some(best)) if default == best => {
                    let role = if keeps { Role::Both } else { Role::Default };
                    listed.push((default, role));
                }
                (default, best) => {
                    listed.extend(default.map(|run| (run, Role::Default)));
                    listed.extend(best.map(|run| (run, tuned)));
                }
            }
        }
        let cost = |run: &Run| run.outcome.usage.cost;
        listed.sort_by(|(a, _), (b, _)| cost(a).total_cmp(&cost(b)));
        listed
    }

    /// The runs that no other beats in both, cost and kept promises, cheapest first.
    pub fn front(&self) -> Vec<&Run> {
        let mut most = f64::NEG_INFINITY;
        let mut front: Vec<&Run> = Vec::new();
        for run in &self.runs {
            if run.outcome.attainment > most {
                most = run.outcome.attainment;
                // Of runs that cost the same, the one that keeps more.
                let cost = run.outcome.usage.cost;
                front.retain(|other| other.outcome.usage.cost < cost);
                front.push(run);
            }
        }
        front
    }

    /// [`Self::front`] as a table in Markdown, of all settings that were run.
    pub fn front_table(&self) -> String {
        let mut table = String::from(
            "| kept | cost | no other is cheaper that keeps as much |\n|---|---|---|\n",
        );
        for run in self.front() {
            let Outcome { attainment, usage, .. } = &run.outcome;
            let kept = attainment * 100.0;
            let _ = writeln!(table, "| {kept:.2} % | {:.0} | {} |", usage.cost, run.name());
        }
        table
    }

    /// A table in Markdown, cheapest first: of each policy what its document says, and what hindsight takes.
    pub fn table(&self, days: f64) -> String {
        let mut table = String::from(
            "| policy | settings | kept | mean wait s | p99 s | GPU-h | cost | x clairvoyant | launches/day |\n|---|---|---|---|---|---|---|---|---|\n",
        );
        for (run, role) in self.listed() {
            let is_ours = run.policy == PolicyName::Stoker;
            let (bold, role) = if is_ours { ("**", "") } else { ("", role.as_str()) };
            let outcome = &run.outcome;
            let _ = writeln!(
                table,
                "| {bold}{}{bold} | {role} | {:.2} % | {:.1} | {:.0} | {:.0} | {:.0} | {:.2} | {:.0} |",
                run.name(),
                outcome.attainment * 100.0,
                outcome.mean_wait,
                outcome.p99,
                outcome.hours(),
                outcome.usage.cost,
                outcome.usage.cost / self.clairvoyant.cost,
                count(outcome.usage.launches) / days,
            );
        }
        let _ = writeln!(
            table,
            "| perfect foresight | | 100 % | | | {:.0} | {:.0} | 1.00 | {:.0} |",
            self.clairvoyant.hours,
            self.clairvoyant.cost,
            count(self.clairvoyant.launches) / days
        );
        table
    }
}

/// What each policy is run with, as a table in Markdown.
pub fn settings_table() -> String {
    let mut table = String::from("| policy | by its document | grid |\n|---|---|---|\n");
    for policy in PolicyName::value_variants() {
        let defaults: Vec<String> = policy
            .settings()
            .iter()
            .map(|setting| format!("{} {}", setting.key, setting.otherwise))
            .collect();
        let _ =
            writeln!(table, "| {policy} | {} | {} |", defaults.join(", "), policy.grid_in_words());
    }
    table
}

/// Days that a workload spans, for rates.
pub fn days(workload: &Workload) -> f64 {
    (seconds(workload.end) / 86_400.0).max(1e-3)
}
