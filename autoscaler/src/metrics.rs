//! The autoscaler's metrics: names, and the only places that record them. What a write changes is counted in `lives`.
//!
//! Pools and states are labels; machines and jobs never are.

mod lives;

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use stoker_core::cloud::Human;
use stoker_core::fleet::execute::Finding;
use stoker_core::fleet::ledger::{Entry, Ledger, State, StateKind, WorkerList};
use stoker_core::fleet::{Budget, CapacityType, Plan, Policy, PoolReport, Report};
use stoker_core::money::Money;
use stoker_core::time::Timestamp;

#[cfg(feature = "ec2")]
use crate::cloud::{ErrorClass, Verb};

pub(crate) use lives::written;

/// Calls to a cloud, by what was asked and how it went; each try counts.
const CALLS: &str = "stoker_cloud_calls_total";
const PLANS: &str = "stoker_autoscaler_plans_total";
const LEADER: &str = "stoker_autoscaler_leader";
const MACHINES: &str = "stoker_autoscaler_machines";
const MACHINE_AGE: &str = "stoker_autoscaler_machine_age_seconds";
const LAUNCHES: &str = "stoker_autoscaler_launches_total";
const LAUNCH_OUTCOMES: &str = "stoker_autoscaler_launch_outcomes_total";
const REMOVALS: &str = "stoker_autoscaler_removals_total";
const INTERRUPTIONS: &str = "stoker_autoscaler_interruptions_total";
const HOURLY: &str = "stoker_autoscaler_hourly_dollars";
const DOLLARS: &str = "stoker_autoscaler_dollars_total";
const SPENT: &str = "stoker_autoscaler_spent_dollars";
const FORECAST: &str = "stoker_autoscaler_forecast_dollars";
const BUDGET: &str = "stoker_autoscaler_budget_dollars";
const FINDINGS: &str = "stoker_autoscaler_findings_total";

/// Explains the metrics to whoever collects them.
pub fn describe() {
    describe_counter!(CALLS, Unit::Count, "Calls to the cloud, by verb and outcome");
    describe_counter!(PLANS, "Plans, by what they came to: act, hold or quiet");
    describe_gauge!(LEADER, "1 while this autoscaler leads");
    describe_gauge!(MACHINES, "Machines in the ledger, by pool, state and capacity type");
    describe_gauge!(MACHINE_AGE, Unit::Seconds, "Age of the machine longest in its state");
    describe_counter!(LAUNCHES, "Machines wanted, by pool, capacity type and the plan's reason");
    describe_counter!(LAUNCH_OUTCOMES, "What became of launches, by pool and capacity type");
    describe_counter!(REMOVALS, "Machines that were taken out, by pool and reason");
    describe_counter!(INTERRUPTIONS, "Machines that the cloud took back, by pool");
    describe_gauge!(HOURLY, "What runs now, in dollars an hour, by pool and capacity type");
    // A counter holds whole numbers only; this one grows by less than a cent at a time.
    describe_gauge!(DOLLARS, "Dollars spent, by pool and use: run, boot, idle or lost");
    describe_gauge!(SPENT, "Dollars spent in this day or month (UTC)");
    describe_gauge!(FORECAST, "Dollars that this month will have cost at its end");
    describe_gauge!(BUDGET, "The fleet file's bounds on dollars, by period");
    describe_counter!(FINDINGS, Unit::Count, "What steps found, by kind and need of a person");
    // From 0 on: the first one has to show as an increase.
    for kind in Finding::URGENT {
        counter!(FINDINGS, "kind" => kind, "human" => Human::Now.as_str()).increment(0);
    }
}

/// A try at a call ended; `failure` is the class of its error.
#[cfg(feature = "ec2")]
pub(crate) fn called(verb: Verb, failure: Option<ErrorClass>) {
    let outcome = failure.map_or("ok", ErrorClass::as_str);
    counter!(CALLS, "verb" => verb.as_str(), "outcome" => outcome).increment(1);
}

/// 1 while it leads, else 0.
pub(crate) fn leads(leads: u8) {
    gauge!(LEADER).set(f64::from(leads));
}

pub(crate) fn planned(plan: &Plan, report: &Report) {
    let held = |report: &PoolReport| matches!(report, PoolReport::Held(_));
    let outcome = if !plan.steps.is_empty() {
        "act"
    } else if report.pools.values().any(held) {
        "hold"
    } else {
        "quiet"
    };
    counter!(PLANS, "outcome" => outcome).increment(1);
}

/// A step did not do something, or has news.
pub(crate) fn found(finding: &Finding) {
    let (kind, human) = (finding.kind(), finding.human().as_str());
    counter!(FINDINGS, "kind" => kind, "human" => human).increment(1);
}

/// Bounds are reported where there are some.
pub(crate) fn budget(budget: &Budget) {
    for (period, bound) in
        [("hour", budget.per_hour), ("day", budget.per_day), ("month", budget.per_month)]
    {
        if bound != Money::MAX {
            gauge!(BUDGET, "period" => period).set(bound.dollars());
        }
    }
}

/// What a machine is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Run,
    Boot,
    Idle,
    /// The cloud takes it back: what it still costs buys no finished work that could not have been elsewhere.
    Lost,
}

impl Use {
    const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Boot => "boot",
            Self::Idle => "idle",
            Self::Lost => "lost",
        }
    }

    fn of(entry: &Entry, workers: &WorkerList) -> Self {
        if entry.times.noticed.is_some() {
            return Self::Lost;
        }
        if entry.times.ready.is_none() {
            return Self::Boot;
        }
        let worker = workers.of(entry);
        if worker.is_some_and(|worker| worker.running > 0) { Self::Run } else { Self::Idle }
    }
}

/// What the ledger has, and what the time since the last look has cost.
pub(crate) fn ledger(
    ledger: &Ledger,
    (policy, workers): (&Policy, &WorkerList),
    elapsed: Duration,
    now: Timestamp,
) {
    let mut machines: BTreeMap<(String, StateKind, CapacityType), u32> = BTreeMap::new();
    let mut ages: BTreeMap<(String, StateKind), Duration> = BTreeMap::new();
    let mut hourly: BTreeMap<(String, CapacityType), Money> = BTreeMap::new();
    for entry in ledger.open() {
        let (pool, state) = (entry.order.pool.to_string(), entry.state.kind());
        let capacity = entry.order.capacity;
        *machines.entry((pool.clone(), state, capacity)).or_default() += 1;
        let age = now.since(since(entry));
        let oldest = ages.entry((pool.clone(), state)).or_default();
        *oldest = (*oldest).max(age);
        if entry.times.requested.is_some() {
            let sum = hourly.entry((pool.clone(), capacity)).or_insert(Money::ZERO);
            let price = policy.price_of(&entry.order);
            *sum = sum.plus(price.hour());
            let spent = price.of(elapsed).dollars();
            let to = Use::of(entry, workers).name();
            gauge!(DOLLARS, "pool" => pool, "use" => to).increment(spent);
        }
    }
    let pools: std::collections::BTreeSet<String> =
        ledger.entries.values().map(|entry| entry.order.pool.to_string()).collect();
    // Also what has become none: a gauge keeps what it was told last.
    for pool in &pools {
        for state in StateKind::ALL {
            if matches!(state, StateKind::Gone | StateKind::Failed) {
                continue;
            }
            let age = ages.get(&(pool.clone(), state)).copied().unwrap_or_default();
            gauge!(MACHINE_AGE, "pool" => pool.clone(), "state" => state.name())
                .set(age.as_secs_f64());
            for capacity in [CapacityType::OnDemand, CapacityType::Spot] {
                let count = machines.get(&(pool.clone(), state, capacity)).copied();
                gauge!(MACHINES, "pool" => pool.clone(), "state" => state.name(),
                    "capacity" => capacity.as_str())
                .set(f64::from(count.unwrap_or_default()));
            }
        }
        for capacity in [CapacityType::OnDemand, CapacityType::Spot] {
            let sum = hourly.get(&(pool.clone(), capacity)).copied().unwrap_or(Money::ZERO);
            gauge!(HOURLY, "pool" => pool.clone(), "capacity" => capacity.as_str())
                .set(sum.dollars());
        }
    }
    let spend = &ledger.account.spend;
    gauge!(SPENT, "period" => "day").set(spend.day_spent.dollars());
    gauge!(SPENT, "period" => "month").set(spend.month_spent.dollars());
    gauge!(FORECAST, "period" => "month").set(spend.forecast(now).dollars());
}

/// Since when a machine is in its state.
fn since(entry: &Entry) -> Timestamp {
    let times = &entry.times;
    match entry.state {
        State::Intended => Some(times.intended),
        State::Requested { .. } => times.requested,
        State::Launched { .. } => times.launched,
        State::Ready { .. } => times.ready,
        State::Draining { .. } => times.draining,
        State::Terminating { .. } => times.terminating,
        State::Gone { .. } | State::Failed { .. } => times.ended,
    }
    .unwrap_or(times.intended)
}
