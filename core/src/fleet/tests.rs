mod absurd;
mod burst;
mod full;
mod rolling;
mod sizes;
mod stored;
mod surplus;
mod warm;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ids::{ClassName, InstanceName, ModelName, OfferingName, PoolName};
use crate::money::{HourlyPrice, Money};
use crate::time::Timestamp;

const NOON: i64 = 1_700_000_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(NOON + seconds * 1000)
}

fn pool_name() -> PoolName {
    PoolName::new("gpu").unwrap()
}

fn offering(capacity: CapacityType, zone: &str, dollars: f64) -> (OfferingName, Offering) {
    let name = OfferingName::new(&format!("g5.{zone}.{}", capacity.as_str())).unwrap();
    let price = HourlyPrice::new(Money::from_dollars(dollars).unwrap());
    let instance_type = "g5".to_owned();
    let zone = zone.to_owned();
    (name, Offering { instance_type, zone, capacity, price, speed: 1.0, bulk_speed: 2.0 })
}

fn policy() -> Policy {
    let class = |seconds| Class {
        max_wait: Duration::from_secs(seconds),
        objective: 0.99,
        cold_start: true,
    };
    let classes = BTreeMap::from([
        (ClassName::new("standard").unwrap(), class(60)),
        (ClassName::new("bulk").unwrap(), class(14_400)),
    ]);
    let scaling = Scaling {
        min: 0,
        max: 20,
        warm: 0,
        boot: Duration::from_mins(3),
        expire_after: Some(Duration::from_hours(72)),
        disruption: Disruption::default(),
        offerings: BTreeMap::from([
            offering(CapacityType::Spot, "a", 0.4),
            offering(CapacityType::Spot, "b", 0.42),
            offering(CapacityType::OnDemand, "a", 1.0),
        ]),
    };
    let pools = BTreeMap::from([(pool_name(), PoolPolicy { classes, scaling })]);
    Policy { pools, budget: Budget { max_launches: 8, ..Budget::default() } }
}

fn queue(class: &str, waiting: Vec<Waiting>, arrived: u64) -> Queue {
    let none = Queue::new(ClassName::new(class).unwrap(), ModelName::new("m").unwrap());
    Queue { waiting, arrived, ..none }
}

fn snapshot(now: Timestamp, queues: Vec<Queue>, instances: Vec<Instance>) -> Snapshot {
    let pool = PoolSnapshot {
        queues: Reading::Known { at: now, value: queues },
        instances: Reading::Known { at: now, value: instances },
        markets: BTreeMap::new(),
    };
    Snapshot { pools: BTreeMap::from([(pool_name(), pool)]) }
}

fn instance(number: u32, capacity: CapacityType, state: InstanceState) -> Instance {
    Instance {
        name: InstanceName::new(&format!("i-{number}")).unwrap(),
        offering: offering(capacity, "a", 1.0).0,
        state,
        launched_at: at(-600),
        seen_at: at(0),
        notice: None,
        outdated: false,
        warm: Vec::new(),
        remaining: None,
    }
}

fn ready(running: u32) -> InstanceState {
    let idle_since = (running == 0).then(|| at(-10));
    InstanceState::Ready { ready_at: at(-400), running, idle_since }
}

fn launches(plan: &Plan) -> BTreeMap<String, u32> {
    let mut launches = BTreeMap::new();
    for step in &plan.steps {
        if let Step::Launch { offering, count, .. } = step {
            *launches.entry(offering.to_string()).or_default() += count;
        }
    }
    launches
}

fn removed(plan: &Plan) -> Vec<String> {
    let instance = |step: &Step| match step {
        Step::Drain { instance, .. } | Step::Terminate { instance, .. } => {
            Some(instance.to_string())
        }
        Step::Launch { .. } => None,
    };
    plan.steps.iter().filter_map(instance).collect()
}

fn hold(planned: &Planned) -> &Hold {
    match &planned.report.pools[&pool_name()] {
        PoolReport::Held(hold) => hold,
        PoolReport::Planned(findings) => panic!("{findings:?}"),
    }
}

fn waiting(jobs: u64) -> Vec<Waiting> {
    vec![Waiting { age: Duration::from_secs(5), jobs }]
}

/// A memory that wants so many workers at time zero: some load for an hour before it.
fn served(policy: &Policy, jobs_a_minute: u64) -> Memory {
    let mut memory = Memory::default();
    for minute in 0..60 {
        let now = at(-3600 + minute * 60);
        let arrived = u64::try_from(minute).unwrap() * jobs_a_minute;
        let mut standard = queue("standard", vec![], arrived);
        standard.started = arrived;
        standard.finished = arrived;
        standard.service_seconds = 5.0 * f64::from(u32::try_from(arrived).unwrap());
        standard.service_squares = 5.0 * standard.service_seconds;
        let workers = vec![instance(99, CapacityType::Spot, ready(1))];
        memory = plan(policy, &snapshot(now, vec![standard], workers), memory, now).memory;
    }
    memory
}

#[test]
fn jobs_that_wait_are_met_with_spot_spread_over_zones() {
    let seen = snapshot(at(0), vec![queue("standard", waiting(400), 400)], vec![]);
    let planned = plan(&policy(), &seen, Memory::default(), at(0));
    let launches = launches(&planned.plan);
    assert_eq!(launches.values().sum::<u32>(), 8, "as many as the budget allows: {launches:?}");
    assert_eq!(launches.len(), 2, "both spot zones and no on-demand: {launches:?}");
}

#[test]
fn on_demand_bridges_when_spot_is_refused_and_leaves_when_spot_is_there() {
    let (policy, spot_a) = (policy(), offering(CapacityType::Spot, "a", 0.4).0);
    let mut seen = snapshot(at(0), vec![queue("standard", waiting(40), 40)], vec![]);
    let first = plan(&policy, &seen, Memory::default(), at(0));
    seen = snapshot(at(15), vec![queue("standard", waiting(40), 40)], vec![]);
    let pool = seen.pools.get_mut(&pool_name()).unwrap();
    for name in [spot_a, offering(CapacityType::Spot, "b", 0.4).0] {
        pool.markets.insert(name, Market { refused: 1, ..Market::default() });
    }
    let second = plan(&policy, &seen, first.memory, at(15));
    assert!(launches(&second.plan).keys().all(|name| name.ends_with("on-demand")), "{second:?}");
    assert!(!launches(&second.plan).is_empty());

    // Later, with a busy on-demand worker and a spot one: the on-demand one goes.
    let workers = vec![
        instance(1, CapacityType::OnDemand, ready(1)),
        instance(2, CapacityType::Spot, ready(0)),
        instance(3, CapacityType::Spot, ready(1)),
    ];
    let seen = snapshot(at(0), vec![queue("standard", vec![], 1)], workers);
    let later = plan(&policy, &seen, Memory::default(), at(0));
    assert!(removed(&later.plan).contains(&"i-1".to_owned()), "{later:?}");
}

#[test]
fn an_idle_worker_that_nobody_needs_goes_though_it_is_to_be_replaced() {
    let spot = ready(0);
    for (capacity, outdated) in [(CapacityType::Spot, true), (CapacityType::OnDemand, false)] {
        let mut memory = Memory::default();
        let quiet = (0..480).find(|look| {
            let now = at(look * 15);
            let mut idle = instance(1, capacity, spot);
            (idle.outdated, idle.seen_at) = (outdated, now);
            let seen = snapshot(now, vec![queue("standard", vec![], 0)], vec![idle]);
            let planned = plan(&policy(), &seen, std::mem::take(&mut memory), now);
            memory = planned.memory;
            assert!(launches(&planned.plan).is_empty(), "{:?}", planned.plan);
            !removed(&planned.plan).is_empty()
        });
        assert!(quiet.is_some(), "{capacity:?}: one that idles for two hours is paid for");
    }
}

#[test]
fn a_notice_drains_and_replaces_at_once() {
    let mut lost = instance(1, CapacityType::Spot, ready(1));
    lost.notice = Some(Notice::Interruption { lost_at: at(120) });
    let seen = snapshot(at(0), vec![queue("standard", waiting(1), 1)], vec![lost]);
    let planned = plan(&policy(), &seen, Memory::default(), at(0));
    let drained = planned
        .plan
        .steps
        .iter()
        .any(|step| matches!(step, Step::Drain { deadline, .. } if *deadline == at(120)));
    assert!(drained, "{planned:?}");
    assert!(!launches(&planned.plan).is_empty(), "{planned:?}");
}

#[test]
fn a_large_batch_that_may_wait_is_launched_for_by_its_deadline() {
    let backlog = vec![Waiting { age: Duration::ZERO, jobs: 20_000 }];
    let seen = snapshot(at(0), vec![queue("bulk", backlog, 20_000)], vec![]);
    let planned = plan(&policy(), &seen, Memory::default(), at(0));
    let bulk = planned
        .plan
        .steps
        .iter()
        .any(|step| matches!(step, Step::Launch { reason: LaunchReason::Bulk { .. }, .. }));
    assert!(bulk, "{planned:?}");
}

#[test]
fn what_cannot_be_trusted_is_waited_for() {
    let policy = policy();
    let worker = || vec![instance(1, CapacityType::Spot, ready(0))];
    let good = || snapshot(at(0), vec![queue("standard", vec![], 0)], worker());

    let stale = plan(&policy, &good(), Memory::default(), at(600));
    assert!(matches!(hold(&stale), Hold::Stale { .. }));

    let mut unknown = good();
    unknown.pools.get_mut(&pool_name()).unwrap().queues =
        Reading::Unknown { why: "the store does not answer".to_owned() };
    let unknown = plan(&policy, &unknown, Memory::default(), at(0));
    assert_eq!(hold(&unknown).to_string(), "waits for the queues: the store does not answer");

    let nothing = plan(&policy, &Snapshot::default(), Memory::default(), at(0));
    assert_eq!(*hold(&nothing), Hold::NotObserved);

    let billion = vec![queue("standard", waiting(1_000_000_000), 0)];
    let billion = plan(&policy, &snapshot(at(0), billion, worker()), Memory::default(), at(0));
    assert!(matches!(hold(&billion), Hold::Absurd { .. }));

    let mut nan = queue("standard", vec![], 0);
    nan.service_seconds = f64::NAN;
    let nan = plan(&policy, &snapshot(at(0), vec![nan], worker()), Memory::default(), at(0));
    assert!(matches!(hold(&nan), Hold::Absurd { .. }));
    for planned in [stale, unknown, nothing, billion, nan] {
        assert!(planned.plan.steps.is_empty());
    }
}

#[test]
fn a_fleet_that_looks_dead_is_not_ended_as_a_whole() {
    let mut silent: Vec<Instance> =
        (0..15).map(|number| instance(number, CapacityType::Spot, ready(1))).collect();
    for instance in &mut silent {
        instance.seen_at = at(-500);
    }
    let seen = snapshot(at(0), vec![queue("standard", waiting(9), 9)], silent);
    let planned = plan(&policy(), &seen, Memory::default(), at(0));
    assert_eq!(removed(&planned.plan).len(), 3, "{planned:?}");
}

fn any_state() -> impl Strategy<Value = InstanceState> {
    let time = || (-100_000_i64..400).prop_map(at);
    prop_oneof![
        Just(InstanceState::Booting),
        (time(), 0..3_u32, proptest::option::of(time())).prop_map(
            |(ready_at, running, idle_since)| InstanceState::Ready {
                ready_at,
                running,
                idle_since
            }
        ),
        (0..3_u32, time()).prop_map(|(running, since)| InstanceState::Draining { running, since }),
    ]
}

fn any_instances() -> impl Strategy<Value = Vec<Instance>> {
    let notice = prop_oneof![
        4 => Just(None),
        1 => Just(Some(Notice::Rebalance)),
        1 => (-60_i64..200).prop_map(|s| Some(Notice::Interruption { lost_at: at(s) })),
    ];
    let seconds = prop_oneof![0..10_000_u64, any::<u64>()];
    let told = proptest::option::of(seconds.prop_map(Duration::from_secs));
    let times = (-300_000_i64..60, -1000_i64..10, told);
    let one = (any_state(), times, notice, any::<bool>(), 0..3_u8);
    proptest::collection::vec(one, 0..25).prop_map(|all| {
        let build = |(number, (state, (launched, seen, told), notice, outdated, kind))| {
            let capacity = if kind == 0 { CapacityType::OnDemand } else { CapacityType::Spot };
            let mut instance = instance(number, capacity, state);
            instance.launched_at = at(launched);
            instance.seen_at = at(seen);
            instance.notice = notice;
            instance.outdated = outdated;
            instance.remaining = told;
            instance
        };
        (0..).zip(all).map(build).collect()
    })
}

fn any_queue() -> impl Strategy<Value = Queue> {
    let number = prop_oneof![0..1000_u64, any::<u64>()];
    let seconds = prop_oneof![0.0..1e4_f64, any::<f64>()];
    let waiting =
        proptest::collection::vec((any::<u32>(), prop_oneof![0..500_u64, any::<u64>()]), 0..4);
    let counters = (number.clone(), number.clone(), number.clone(), number);
    (any::<bool>(), waiting, counters, seconds.clone(), seconds).prop_map(
        |(bulk, waiting, (arrived, started, started_late, finished), sum, squares)| Queue {
            waiting: waiting
                .into_iter()
                .map(|(age, jobs)| Waiting { age: Duration::from_secs(age.into()), jobs })
                .collect(),
            started,
            started_late,
            finished,
            service_seconds: sum,
            service_squares: squares,
            ..queue(if bulk { "bulk" } else { "standard" }, vec![], arrived)
        },
    )
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let queues = proptest::collection::vec(any_queue(), 0..3);
    let market =
        (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(launched, refused, interrupted)| {
            Market { launched, refused, interrupted, held_back: refused / 2 }
        });
    (queues, any_instances(), market).prop_map(|(queues, instances, market)| {
        let mut seen = snapshot(at(0), queues, instances);
        let pool = seen.pools.get_mut(&pool_name()).unwrap();
        pool.markets.insert(offering(CapacityType::Spot, "a", 0.4).0, market);
        seen
    })
}

proptest! {
    #[test]
    fn whatever_is_seen_the_plan_is_the_same_twice_and_within_its_bounds(
        seen in proptest::collection::vec(any_snapshot(), 1..5),
        steps in proptest::collection::vec(prop_oneof![-100_i64..200, Just(i64::MAX / 4)], 5),
    ) {
        let policy = policy();
        let mut memory = Memory::default();
        let mut now = at(0);
        for (seen, step) in seen.iter().zip(steps) {
            let planned = plan(&policy, seen, memory.clone(), now);
            let again = plan(&policy, seen, memory, now);
            // Compared as text: a report may hold a number that is not equal to itself.
            prop_assert_eq!(format!("{planned:?}"), format!("{again:?}"));
            memory = planned.memory;
            now = Timestamp::from_unix_millis(
                now.as_unix_millis().saturating_add(step.saturating_mul(1000)),
            );
            let pool = &seen.pools[&pool_name()];
            let Reading::Known { value: instances, .. } = &pool.instances else { continue };
            let count: u32 = launches(&planned.plan).values().sum();
            prop_assert!(count <= 8, "launches above the budget: {count}");
            let total = u64::from(count) + instances.len() as u64;
            prop_assert!(count == 0 || total <= 20, "more than the pool may have");
            for step in &planned.plan.steps {
                let Step::Terminate { instance, reason, .. } = step else { continue };
                let instance = instances.iter().find(|i| i.name == *instance).unwrap();
                let lost = matches!(reason, RemoveReason::Dead { .. } | RemoveReason::DrainOverdue { .. });
                prop_assert!(instance.running() == 0 || lost, "a busy worker was ended: {step:?}");
            }
        }
    }

    #[test]
    fn more_jobs_that_wait_never_want_fewer_workers(fewer in 0..3000_u64, more in 0..3000_u64) {
        let count = |jobs: u64| {
            let seen = snapshot(at(0), vec![queue("standard", waiting(jobs), jobs)], vec![]);
            let planned = plan(&policy(), &seen, Memory::default(), at(0));
            launches(&planned.plan).values().sum::<u32>()
        };
        let (fewer, more) = (fewer.min(more), fewer.max(more));
        prop_assert!(count(fewer) <= count(more));
    }

    #[test]
    fn planning_again_with_what_was_launched_launches_nothing(jobs in 1..400_u64) {
        let mut policy = policy();
        policy.budget = Budget::default();
        let seen = snapshot(at(0), vec![queue("standard", waiting(jobs), jobs)], vec![]);
        let first = plan(&policy, &seen, Memory::default(), at(0));
        let mut booting = Vec::new();
        for (name, count) in launches(&first.plan) {
            for _ in 0..count {
                let number = u32::try_from(booting.len()).unwrap();
                let mut new = instance(number, CapacityType::Spot, InstanceState::Booting);
                new.offering = OfferingName::new(&name).unwrap();
                new.launched_at = at(0);
                booting.push(new);
            }
        }
        let seen = snapshot(at(1), vec![queue("standard", waiting(jobs), jobs)], booting);
        let second = plan(&policy, &seen, first.memory, at(1));
        prop_assert!(second.plan.steps.is_empty(), "{:?}", second.plan);
    }
}

#[test]
fn a_backlog_of_long_jobs_wants_more_than_one_of_short_jobs() {
    let mean = |model: &str, seconds: f64, arrived: u64, waiting: Vec<Waiting>| {
        let jobs = f64::from(u32::try_from(arrived).unwrap());
        Queue {
            model: ModelName::new(model).unwrap(),
            started: arrived,
            finished: arrived,
            service_seconds: seconds * jobs,
            service_squares: seconds * seconds * jobs,
            ..queue("standard", waiting, arrived)
        }
    };
    let wanted = |short: u64, long: u64| {
        let mut memory = Memory::default();
        for look in 0..120_i64 {
            let (now, arrived) = (at(-1800 + look * 15), u64::try_from(look).unwrap());
            let queues =
                vec![mean("short", 1.0, arrived, vec![]), mean("long", 30.0, arrived, vec![])];
            memory = plan(&policy(), &snapshot(now, queues, vec![]), memory, now).memory;
        }
        let queues =
            vec![mean("short", 1.0, 119, waiting(short)), mean("long", 30.0, 119, waiting(long))];
        let planned = plan(&policy(), &snapshot(at(0), queues, vec![]), memory, at(0));
        match &planned.report.pools[&pool_name()] {
            PoolReport::Planned(findings) => findings.wanted,
            PoolReport::Held(hold) => panic!("{hold}"),
        }
    };
    assert!(wanted(0, 40) > wanted(40, 0) + 2, "{} {}", wanted(0, 40), wanted(40, 0));
}
