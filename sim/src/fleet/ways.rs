//! Serverless, always-on or spot? The ways to buy capacity for a workload, side by side.

use serde::Serialize;
use stoker_core::fleet::{Budget, PoolPolicy};

use crate::fleet::catalog::PolicyName;
use crate::fleet::clairvoyant;
use crate::fleet::job::{Workload, count, seconds};
use crate::fleet::planner::Stoker;
use crate::fleet::score::Outcome;
use crate::fleet::what_if;
use crate::fleet::world::{self, Setup};

/// A way to buy capacity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Way {
    pub name: String,
    /// Whether every class's promise was kept as often as it says.
    pub keeps: bool,
    pub outcome: Outcome,
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
    /// Hours that a schedule made with perfect foresight pays, and its launches.
    pub foresight_hours: f64,
    pub foresight_launches: usize,
}

/// Runs Stoker on all offerings, on those of each kind where there are both, the fewest machines that are always on, and
/// the further policies.
pub fn compare(
    (setup, workload): (&Setup, &Workload),
    (pool, budget): (&PoolPolicy, Budget),
    policies: &[PolicyName],
    serverless_price: Option<f64>,
) -> Ways {
    let way = |name: &str, setup: &Setup, outcome: Outcome| Way {
        name: name.to_owned(),
        keeps: outcome.keeps(setup),
        outcome,
    };
    let ours = |name: &str, setup: &Setup| {
        let mut stoker = Stoker::new(setup).of_pool(pool, budget);
        way(name, setup, world::run(setup, workload, &mut stoker))
    };
    let stoker = ours("Stoker", setup);
    let mut others = Vec::new();
    let on_demand = what_if::only(setup, |offering| !offering.spot);
    let spot = what_if::only(setup, |offering| offering.spot);
    if let (Some(on_demand), Some(spot)) = (&on_demand, &spot) {
        others.push(ours("Stoker, on-demand only", on_demand));
        others.push(ours("Stoker, spot only", spot));
    }
    for policy in policies.iter().filter(|policy| **policy != PolicyName::Stoker) {
        // What is always on must not be taken back.
        let on = on_demand.as_ref().filter(|_| *policy == PolicyName::AlwaysOn).unwrap_or(setup);
        let outcome = world::run(on, workload, policy.make(on, workload).as_mut());
        let name = match policy {
            PolicyName::AlwaysOn => format!("always on, {} machines", outcome.usage.launches),
            _ => outcome.policy.clone(),
        };
        others.push(way(&name, on, outcome));
    }
    others.sort_by(|a, b| a.outcome.usage.cost.total_cmp(&b.outcome.usage.cost));
    let ways: Vec<Way> = std::iter::once(stoker).chain(others).collect();
    let foresight = clairvoyant::schedule(setup, workload);
    Ways {
        serverless: serverless(workload, &ways, serverless_price),
        ways,
        foresight_hours: foresight.hours,
        foresight_launches: foresight.launches,
    }
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

/// Days that a workload spans.
pub fn days(workload: &Workload) -> f64 {
    (seconds(workload.end) / 86_400.0).max(1e-3)
}
