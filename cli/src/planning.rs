//! What `stoker plan` asks the planner: a snapshot of the running fleet, and the past that its memory is made from.

mod workers;

use std::collections::BTreeMap;

use stoker_core::fleet::ledger::{self, Ledger};
use stoker_core::fleet::{
    self, Fleet, Instance, Memory, PastSlot, Planned, Policy, PoolSnapshot, Reading, Snapshot,
};
use stoker_core::ids::{OfferingName, PoolName};
use stoker_core::money::Money;
use stoker_core::time::Timestamp;
use stoker_proto::{convert, v1};

/// What was read of the fleet: the answers, or why there is none.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) demand: Result<v1::ObserveDemandResponse, String>,
    pub(crate) workers: Result<v1::ListWorkersResponse, String>,
    /// None: no autoscaler keeps one.
    pub(crate) ledger: Option<Ledger>,
    /// What it has learned. None: the recent past is lived through instead.
    pub(crate) memory: Option<Memory>,
    /// When the coordinator answered, by its clock.
    pub(crate) now: Timestamp,
}

/// What the planner was given, what it answered, and what an operator has to know about it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) planned: Planned,
    pub(crate) learned: Learned,
    /// What was assumed for want of a reading.
    pub(crate) assumed: Vec<String>,
    /// What is not known, and so not planned with.
    pub(crate) unknown: Vec<String>,
}

/// Where what is known of the load comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Learned {
    /// Of the autoscaler, which has seen it all.
    Autoscaler,
    /// Of so many recorded jobs, by pool.
    Jobs(BTreeMap<PoolName, u64>),
}

/// Plans for every pool that has offerings. `workers_are` says which offering the workers of a pool are of, where the
/// fleet file leaves a choice.
pub(crate) fn outcome(
    fleet: &Fleet,
    observed: &Observed,
    workers_are: &BTreeMap<PoolName, OfferingName>,
) -> Outcome {
    let policy = Policy::of(fleet);
    let mut assumed = Vec::new();
    let mut snapshot = Snapshot::default();
    let mut past: BTreeMap<PoolName, Vec<PastSlot>> = BTreeMap::new();
    let mut learned = BTreeMap::new();
    let bought = bought(observed);
    for (name, pool) in &policy.pools {
        let instances = match (&bought, &observed.workers) {
            (Some(Err(why)), _) | (None, Err(why)) => Reading::Unknown { why: why.clone() },
            (Some(Ok(bought)), _) => {
                let value = bought.get(name).cloned().unwrap_or_default();
                Reading::Known { at: observed.now, value }
            }
            (None, Ok(answer)) => {
                let of_pool = workers::of_pool(answer, name);
                let offering = workers::offering(pool, name, workers_are);
                assumed.extend(workers::assumptions(name, &of_pool, offering.as_ref()));
                workers::reading(&of_pool, offering, observed.now)
            }
        };
        let slots =
            observed.workers.as_ref().ok().and_then(|answer| convert::mean_slots(answer, name));
        let slots = slots.unwrap_or(1.0);
        let queues = match &observed.demand {
            Err(why) => Reading::Unknown { why: why.clone() },
            Ok(answer) => {
                let machines = match &instances {
                    Reading::Known { value, .. } => value.as_slice(),
                    Reading::Unknown { .. } => &[],
                };
                // What is measured on fast machines is more work than it takes time.
                let per_job = slots / pool.mean_speed(machines);
                let slots_of = convert::past_slots(answer, name, per_job);
                learned.insert(name.clone(), slots_of.iter().map(|slot| slot.arrived).sum());
                past.insert(name.clone(), slots_of);
                convert::queues(answer, name, pool, observed.now)
            }
        };
        if slots > 1.0 {
            assumed.push(format!(
                "pool {name}: a worker runs {slots:.0} jobs at a time, so each counts for 1/{slots:.0} of its run time"
            ));
        }
        let ledger = observed.ledger.as_ref();
        let markets = ledger.and_then(|ledger| ledger.account.markets.get(name)).cloned();
        let markets = markets.unwrap_or_default();
        snapshot.pools.insert(name.clone(), PoolSnapshot { queues, instances, markets });
    }
    let (memory, learned) = if let Some(memory) = &observed.memory {
        (memory.clone().taken_over(), Learned::Autoscaler)
    } else {
        let memory = fleet::recall(&policy, &past, Memory::default(), observed.now);
        (memory, Learned::Jobs(learned))
    };
    let planned = fleet::plan(&policy, &snapshot, memory, observed.now);
    Outcome { planned, learned, assumed, unknown: unknown(fleet, observed) }
}

/// The machines of each pool, where an autoscaler keeps a ledger: as it sees them.
fn bought(observed: &Observed) -> Option<Result<BTreeMap<PoolName, Vec<Instance>>, String>> {
    let ledger = observed.ledger.as_ref()?;
    Some(observed.workers.as_ref().map_err(Clone::clone).and_then(|answer| {
        Ok(ledger::instances(ledger, &convert::workers_seen(answer, observed.now)?.list))
    }))
}

/// What is not looked at.
fn unknown(fleet: &Fleet, observed: &Observed) -> Vec<String> {
    let mut unknown = Vec::new();
    if observed.ledger.is_none() {
        unknown.extend([
            "notices of the provider: none counts as given",
            "launches that are under way and have not registered yet: they are not counted",
        ]);
    }
    if observed.memory.is_none() {
        unknown.extend([
            "how long boots took: the fleet file's time is taken",
            "launches that were refused and instances that were taken back: no offering counts as risky or paused",
        ]);
        let budget = fleet.budget;
        if budget.per_day != Money::MAX || budget.per_month != Money::MAX {
            unknown.push("what was spent today and this month: those budgets count from now");
        }
    }
    unknown.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stoker_core::fleet::ledger::{Entry, Order};
    use stoker_core::fleet::{CapacityType, FleetSpec, PoolReport, Step};
    use stoker_core::ids::{Epoch, MachineId};
    use stoker_core::money::{HourlyPrice, Money};
    use stoker_runtime::config;

    use super::*;
    use crate::render::time::to_wire;

    const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_010_000);
    const FLEET: &str = "fleet = 'x'\n[classes.standard]\nmax-wait = '60s'\n\
        [models.echo]\ntask = 'echo'\n[pools.default]\nmodels = ['echo']\n\
        [[pools.default.offerings]]\ninstance-type = 'g5'\nzone = 'a'\nprice = 1\n";
    const SPOT: &str = "[[pools.default.offerings]]\ninstance-type = 'g5'\nzone = 'a'\n\
        capacity = 'spot'\nprice = 0.4\n";

    fn fleet(text: &str) -> Fleet {
        config::parse_toml::<FleetSpec>(text, "test").unwrap().check().unwrap()
    }

    /// 30 jobs that wait since 50 s, after an hour of four jobs a minute that ran 30 s.
    fn demand() -> v1::ObserveDemandResponse {
        let slot = |n: u32| v1::DemandSlot {
            begins_at: Some(to_wire(NOW.before(Duration::from_secs(15) * n))),
            accepted: 1,
            started: 1,
            measured: 1,
            run_seconds: 30.0,
            run_seconds_squared: 900.0,
            ..v1::DemandSlot::default()
        };
        let start_by = Some(to_wire(NOW.after(Duration::from_secs(10))));
        let demand = v1::Demand {
            pool: "default".into(),
            model: "echo".into(),
            class: "standard".into(),
            running: 1,
            waiting: vec![v1::WaitingJobs { start_by, jobs: 30 }],
            slots: (1..=240).rev().map(slot).collect(),
        };
        v1::ObserveDemandResponse { observed_at: Some(to_wire(NOW)), demands: vec![demand] }
    }

    fn workers(slots: u32, state: v1::WorkerState) -> v1::ListWorkersResponse {
        let at = Some(to_wire(NOW.before(Duration::from_mins(30))));
        let worker = v1::Worker {
            id: "0197f2c4-0000-7000-8000-000000000001".into(),
            pool: "default".into(),
            state: state.into(),
            slots,
            busy_slots: 1,
            registered_at: at,
            last_seen_at: Some(to_wire(NOW)),
            ..v1::Worker::default()
        };
        v1::ListWorkersResponse { workers: vec![worker], ..Default::default() }
    }

    fn plan(text: &str, observed: &Observed, are: &[(&str, &str)]) -> Outcome {
        let pair = |(pool, offering): &(&str, &str)| {
            (PoolName::new(pool).unwrap(), OfferingName::new(offering).unwrap())
        };
        outcome(&fleet(text), observed, &are.iter().map(pair).collect())
    }

    fn only(outcome: &Outcome) -> &PoolReport {
        outcome.planned.report.pools.values().next().unwrap()
    }

    fn observed() -> Observed {
        let workers = Ok(workers(1, v1::WorkerState::Ready));
        Observed { demand: Ok(demand()), workers, ledger: None, memory: None, now: NOW }
    }

    #[test]
    fn what_waits_and_what_was_lead_to_launches() {
        let outcome = plan(FLEET, &observed(), &[]);
        let PoolReport::Planned(findings) = only(&outcome) else { panic!("{outcome:?}") };
        assert!((findings.load - 2.0).abs() < 0.3, "{findings:?}");
        let Learned::Jobs(jobs) = &outcome.learned else { panic!("{outcome:?}") };
        assert_eq!((findings.waiting, jobs.values().sum::<u64>()), (30, 240));
        let steps = &outcome.planned.plan.steps;
        assert!(matches!(steps[..], [Step::Launch { count, .. }] if count >= 2), "{steps:?}");
    }

    #[test]
    fn workers_with_slots_do_more_at_a_time() {
        let workers = Ok(workers(4, v1::WorkerState::Ready));
        let outcome = plan(FLEET, &Observed { workers, ..observed() }, &[]);
        let PoolReport::Planned(findings) = only(&outcome) else { panic!("{outcome:?}") };
        assert!((findings.load - 0.5).abs() < 0.1, "{findings:?}");
        assert!(outcome.assumed.iter().any(|said| said.contains("4 jobs at a time")));
    }

    #[test]
    fn a_missing_reading_holds_and_says_why() {
        let why = || "it does not answer".to_owned();
        for observed in [
            Observed { demand: Err(why()), ..observed() },
            Observed { workers: Err(why()), ..observed() },
        ] {
            let outcome = plan(FLEET, &observed, &[]);
            let PoolReport::Held(hold) = only(&outcome) else { panic!("{outcome:?}") };
            assert!(hold.to_string().ends_with("it does not answer"), "{hold}");
            assert!(outcome.planned.plan.steps.is_empty());
        }
    }

    #[test]
    fn an_offering_of_workers_that_is_not_known_holds_until_it_is_said() {
        let text = format!("{FLEET}{SPOT}");
        let outcome = plan(&text, &observed(), &[]);
        let PoolReport::Held(hold) = only(&outcome) else { panic!("{outcome:?}") };
        assert!(hold.to_string().contains("--workers-are default="), "{hold}");
        let outcome = plan(&text, &observed(), &[("default", "g5.a.on-demand")]);
        assert!(matches!(only(&outcome), PoolReport::Planned(_)), "{outcome:?}");
        // Without workers there is nothing to know.
        let workers = Ok(v1::ListWorkersResponse::default());
        let outcome = plan(&text, &Observed { workers, ..observed() }, &[]);
        assert!(matches!(only(&outcome), PoolReport::Planned(_)), "{outcome:?}");
    }

    #[test]
    fn machines_of_the_ledger_are_those_that_are_planned_with() {
        let text = format!("{FLEET}{SPOT}");
        let order = Order {
            pool: PoolName::new("default").unwrap(),
            offering: OfferingName::new("g5.a.spot").unwrap(),
            provider: "memory".into(),
            region: "r".into(),
            zone: "a".into(),
            instance_type: "g5".into(),
            capacity: CapacityType::Spot,
            price: HourlyPrice::new(Money::from_micros(400_000)),
            template: "1".into(),
            reason: "load".into(),
        };
        let asked = |n: u8| {
            Entry::intended(MachineId::from_bytes([n; 16]), Epoch::new(1), order.clone(), NOW)
        };
        let mut ledger = Ledger::default();
        for entry in (1..=9).map(asked) {
            ledger.entries.insert(entry.id, entry);
        }
        // Nobody has to say which offering the workers are of, and what boots counts.
        let workers = v1::ListWorkersResponse {
            observed_at: Some(to_wire(NOW)),
            complete_since: Some(to_wire(NOW.before(Duration::from_hours(1)))),
            ..Default::default()
        };
        let seen = Observed { workers: Ok(workers), ledger: Some(ledger), ..observed() };
        let outcome = plan(&text, &seen, &[]);
        let PoolReport::Planned(findings) = only(&outcome) else { panic!("{outcome:?}") };
        assert!((findings.booting - 9.0).abs() < 1e-9, "{findings:?}");
        assert!(!outcome.unknown.iter().any(|said| said.contains("under way")));
    }

    #[test]
    fn what_the_autoscaler_has_learned_is_planned_with() {
        let idle = Observed { demand: Ok(v1::ObserveDemandResponse::default()), ..observed() };
        let load = |outcome: &Outcome| {
            let PoolReport::Planned(findings) = only(outcome) else { panic!("{outcome:?}") };
            findings.load
        };
        let busy = plan(FLEET, &observed(), &[]);
        let memory = Some(busy.planned.memory.clone());
        // Nothing of the past is recorded; the autoscaler was there.
        let of_memory = plan(FLEET, &Observed { memory, ..idle }, &[]);
        assert_eq!(of_memory.learned, Learned::Autoscaler);
        assert!((load(&of_memory) - load(&busy)).abs() < 0.1, "{of_memory:?}");
        assert!(!of_memory.unknown.iter().any(|said| said.contains("boots")), "{of_memory:?}");
    }

    #[test]
    fn a_lost_worker_is_no_capacity() {
        let workers = Ok(workers(1, v1::WorkerState::Lost));
        let outcome = plan(FLEET, &Observed { workers, ..observed() }, &[]);
        let PoolReport::Planned(findings) = only(&outcome) else { panic!("{outcome:?}") };
        assert!(findings.ready.abs() < 1e-9, "{findings:?}");
        assert!(outcome.assumed.iter().any(|said| said.contains("lost")), "{:?}", outcome.assumed);
    }

    #[test]
    fn money_that_was_spent_is_said_to_be_unknown_where_it_counts() {
        let budget = format!("{FLEET}[budget]\nper-day = 10\n");
        assert!(plan(&budget, &observed(), &[]).unknown.iter().any(|said| said.contains("spent")));
        assert!(!plan(FLEET, &observed(), &[]).unknown.iter().any(|said| said.contains("spent")));
        let known = Observed { memory: Some(Memory::default()), ..observed() };
        assert!(!plan(&budget, &known, &[]).unknown.iter().any(|said| said.contains("spent")));
    }
}
