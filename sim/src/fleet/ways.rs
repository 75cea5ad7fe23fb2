//! Serverless, always-on or spot? The ways to buy capacity for a workload, side by side.

use serde::Serialize;
use stoker_core::fleet::{Budget, CapacityType, PoolPolicy};

use crate::fleet::catalog::{Chosen, PolicyName};
use crate::fleet::clairvoyant;
use crate::fleet::job::{Workload, count};
use crate::fleet::market::Offering;
use crate::fleet::planner::Stoker;
use crate::fleet::score::Outcome;
use crate::fleet::suite::{self, Extent};
use crate::fleet::what_if;
use crate::fleet::world::{self, Setup};

/// A way to buy capacity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Way {
    pub name: String,
    /// Whether every class's promise was kept as often as it says.
    pub keeps: bool,
    /// What went to each offering that it could use.
    pub spent: Vec<Spent>,
    pub outcome: Outcome,
}

/// What an offering was used for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spent {
    pub offering: String,
    pub capacity: CapacityType,
    /// Billed.
    pub hours: f64,
    /// Dollars.
    pub cost: f64,
    pub launches: usize,
}

/// What a provider that bills run time would cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Serverless {
    /// Seconds that all jobs run on the reference worker.
    pub gpu_seconds: f64,
    /// Dollars for them at the price that was named, without what cold starts and idle workers add.
    pub cost: Option<f64>,
    /// Below this price per GPU-second it is cheaper than the cheapest way that keeps the promise.
    pub breaks_even_at: Option<f64>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ways {
    /// What was asked for first, then cheapest first.
    pub ways: Vec<Way>,
    pub serverless: Serverless,
    /// What a schedule made with perfect foresight pays.
    pub foresight: clairvoyant::Schedule,
}

/// The policies to compare with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Others {
    pub policies: Vec<Chosen>,
    /// Whether each also runs with the settings that a grid finds in hindsight.
    pub extent: Extent,
}

/// Runs Stoker on all offerings, on those of each kind where there are both, and the other policies.
pub fn compare(
    (setup, workload): (&Setup, &Workload),
    (pool, budget): (&PoolPolicy, Budget),
    others: &Others,
    serverless_price: Option<f64>,
) -> Ways {
    let ours = |name: &str, setup: &Setup| {
        let mut stoker = Stoker::new(setup).of_pool(pool, budget);
        way(name.to_owned(), setup, world::run(setup, workload, &mut stoker))
    };
    let stoker = ours("Stoker", setup);
    let mut ways = Vec::new();
    let on_demand = what_if::only(setup, |offering| !offering.spot);
    let spot = what_if::only(setup, |offering| offering.spot);
    if let (Some(on_demand), Some(spot)) = (&on_demand, &spot) {
        ways.push(ours("Stoker, on-demand only", on_demand));
        ways.push(ours("Stoker, spot only", spot));
    }
    for chosen in others.policies.iter().filter(|chosen| chosen.name != PolicyName::Stoker) {
        // What is always on must not be taken back.
        let is_on = matches!(chosen.name, PolicyName::AlwaysOn | PolicyName::LastPeak);
        let on = on_demand.as_ref().filter(|_| is_on).unwrap_or(setup);
        ways.extend(of_policy(chosen, on, workload, others.extent));
    }
    ways.sort_by(|a, b| a.outcome.usage.cost.total_cmp(&b.outcome.usage.cost));
    let ways: Vec<Way> = std::iter::once(stoker).chain(ways).collect();
    Ways {
        serverless: serverless(workload, &ways, serverless_price),
        ways,
        foresight: clairvoyant::schedule(setup, workload),
    }
}

/// The runs of a policy: as it was chosen, and tuned.
fn of_policy(chosen: &Chosen, setup: &Setup, workload: &Workload, extent: Extent) -> Vec<Way> {
    let policies = [(chosen.name, chosen.told.clone())];
    let runs = suite::grid((setup, workload), &policies, extent);
    let best = suite::tuned(setup, runs.iter()).filter(|best| !best.is_default);
    let named = |run: &suite::Run| match chosen.name {
        PolicyName::AlwaysOn => format!("always on, {} machines", run.outcome.usage.launches),
        PolicyName::LastPeak => {
            format!("always on for the last peak, {} machines", run.outcome.usage.launches)
        }
        _ => run.outcome.policy.clone(),
    };
    let default = runs.iter().find(|run| run.is_default);
    let default = default.map(|run| way(named(run), setup, run.outcome.clone()));
    let best = best.map(|run| way(format!("{}, tuned", named(run)), setup, run.outcome.clone()));
    default.into_iter().chain(best).collect()
}

fn way(name: String, setup: &Setup, outcome: Outcome) -> Way {
    let usage = &outcome.usage;
    let spent = |(index, offering): (usize, &Offering)| Spent {
        offering: offering.name.clone(),
        capacity: if offering.spot { CapacityType::Spot } else { CapacityType::OnDemand },
        hours: usage.hours[index],
        cost: usage.costs[index],
        launches: usage.launched[index],
    };
    let spent = setup.offerings.iter().enumerate().map(spent).collect();
    Way { name, keeps: outcome.keeps(setup), spent, outcome }
}

fn serverless(workload: &Workload, ways: &[Way], price: Option<f64>) -> Serverless {
    let gpu_seconds = workload.mean_service() * count(workload.jobs.len());
    let cheapest = cheapest(ways).map(|way| way.outcome.usage.cost);
    Serverless {
        gpu_seconds,
        cost: price.map(|price| price * gpu_seconds),
        breaks_even_at: cheapest.filter(|_| gpu_seconds > 0.0).map(|cost| cost / gpu_seconds),
    }
}

/// The cheapest of those that keep the promise.
pub fn cheapest(ways: &[Way]) -> Option<&Way> {
    let keeps = ways.iter().filter(|way| way.keeps);
    keeps.min_by(|a, b| a.outcome.usage.cost.total_cmp(&b.outcome.usage.cost))
}
