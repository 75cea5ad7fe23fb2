//! How long one plan takes for a large fleet.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stoker_core::fleet::{
    Budget, CapacityType, Class, Disruption, Instance, InstanceState, Memory, Offering, Policy,
    PoolPolicy, PoolSnapshot, Queue, Reading, Scaling, Snapshot, Waiting, plan,
};
use stoker_core::ids::{ClassName, InstanceName, ModelName, OfferingName, PoolName};
use stoker_core::money::{HourlyPrice, Money};
use stoker_core::time::Timestamp;

const POOLS: u32 = 10;
const INSTANCES: u32 = 100;
const QUEUES: u32 = 20;
const WAITING: u64 = 5000;
/// Three hours are lived through first, so that the memory is not empty.
const WARM_UP: i64 = 720;
const ROUNDS: i64 = 200;

/// Times plans for 10 pools of 100 instances and 20 queues with 5000 waiting jobs each.
pub fn report() -> String {
    let policy = policy();
    let mut memory = Memory::default();
    let mut times = Vec::new();
    for round in 0..WARM_UP + ROUNDS {
        let now = Timestamp::from_unix_millis(1_700_000_000_000 + round * 15_000);
        let seen = snapshot(&policy, now, u64::try_from(round).unwrap_or(0));
        let from = Instant::now();
        let planned = plan(&policy, &seen, memory, now);
        if round >= WARM_UP {
            times.push(from.elapsed());
        }
        memory = planned.memory;
    }
    times.sort();
    let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e3;
    format!(
        "plan for {} instances, {} queues and {} waiting jobs: median {:.2} ms, p99 {:.2} ms, of {ROUNDS}",
        POOLS * INSTANCES,
        POOLS * QUEUES,
        u64::from(POOLS * QUEUES) * WAITING,
        at(50),
        at(99),
    )
}

fn name<T, E: std::fmt::Debug>(text: &str, new: impl Fn(&str) -> Result<T, E>) -> T {
    new(text).expect("letters, digits and dashes are a name")
}

fn policy() -> Policy {
    let class = Class { max_wait: Duration::from_mins(1), objective: 0.99, cold_start: true };
    let offering = |capacity, zone: &str, dollars| {
        let offering = Offering {
            instance_type: "gpu".to_owned(),
            zone: zone.to_owned(),
            capacity,
            price: HourlyPrice::new(Money::from_micros(dollars)),
            speed: 1.0,
            bulk_speed: 1.0,
        };
        (name(&format!("gpu.{zone}.{}", capacity.as_str()), OfferingName::new), offering)
    };
    let zones = ["a", "b", "c"];
    let spot = zones.map(|zone| offering(CapacityType::Spot, zone, 400_000));
    let on_demand = zones.map(|zone| offering(CapacityType::OnDemand, zone, 1_000_000));
    let pool = PoolPolicy {
        classes: BTreeMap::from([(name("standard", ClassName::new), class)]),
        scaling: Scaling {
            min: 0,
            max: 1000,
            warm: 0,
            boot: Duration::from_mins(3),
            expire_after: None,
            disruption: Disruption::default(),
            offerings: spot.into_iter().chain(on_demand).collect(),
        },
    };
    let pools = (0..POOLS).map(|n| (name(&format!("p{n}"), PoolName::new), pool.clone()));
    Policy { pools: pools.collect(), budget: Budget::default() }
}

fn snapshot(policy: &Policy, now: Timestamp, round: u64) -> Snapshot {
    let queue = |number: u32| Queue {
        class: name("standard", ClassName::new),
        model: name(&format!("m{number}"), ModelName::new),
        waiting: (0..100)
            .map(|age| Waiting { age: Duration::from_secs(age), jobs: WAITING / 100 })
            .collect(),
        running: 5,
        arrived: WAITING + round * 10,
        started: round * 10,
        started_late: round,
        finished: round * 10,
        service_seconds: 200.0 * f64::from(u32::try_from(round).unwrap_or(0)),
        service_squares: 8000.0 * f64::from(u32::try_from(round).unwrap_or(0)),
    };
    let offerings: Vec<&OfferingName> = policy
        .pools
        .values()
        .next()
        .map(|p| p.scaling.offerings.keys().collect())
        .unwrap_or_default();
    let instance = |number: u32| Instance {
        name: name(&format!("i-{number}"), InstanceName::new),
        offering: offerings[number as usize % offerings.len()].clone(),
        state: InstanceState::Ready { ready_at: now, running: 1, idle_since: None },
        launched_at: now.before(Duration::from_hours(1)),
        seen_at: now,
        notice: None,
        outdated: false,
        warm: Vec::new(),
        remaining: None,
    };
    let pool = || PoolSnapshot {
        queues: Reading::Known { at: now, value: (0..QUEUES).map(queue).collect() },
        instances: Reading::Known { at: now, value: (0..INSTANCES).map(instance).collect() },
        markets: BTreeMap::new(),
    };
    Snapshot { pools: policy.pools.keys().map(|name| (name.clone(), pool())).collect() }
}
