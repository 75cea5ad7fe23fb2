//! A class whose jobs may not wait for a boot keeps a worker where it needs one, and not in every pool.

use super::*;

fn name(pool: &str) -> PoolName {
    PoolName::new(pool).unwrap()
}

/// Two pools at different prices, and a class that allows no cold start and so many seconds of wait.
fn two_pools(max_wait: u64) -> Policy {
    let class =
        Class { max_wait: Duration::from_secs(max_wait), objective: 0.99, cold_start: false };
    let pool = |dollars| {
        let [pool] =
            <[PoolPolicy; 1]>::try_from(policy().pools.into_values().collect::<Vec<_>>()).unwrap();
        let classes = BTreeMap::from([(ClassName::new("instant").unwrap(), class.clone())]);
        let offerings = BTreeMap::from([offering(CapacityType::OnDemand, "a", dollars)]);
        PoolPolicy { classes, scaling: Scaling { offerings, ..pool.scaling } }
    };
    let pools = BTreeMap::from([(name("cheap"), pool(0.5)), (name("dear"), pool(5.0))]);
    Policy { pools, ..Policy::default() }
}

/// Pools for which something is launched when nothing is there, after each had so many jobs.
fn warmed(policy: &Policy, jobs: &[(&str, u64)]) -> Vec<String> {
    let mut memory = Memory::default();
    let mut launched = BTreeMap::new();
    // The jobs come and go at once; then it is silent for two days, so that nobody else keeps a worker.
    for look in 0..4 * 48 {
        let now = at(look * 900);
        let pool = |pool: &PoolName| {
            let jobs =
                jobs.iter().find(|(of, _)| *of == pool.as_str()).map_or(0, |(_, jobs)| *jobs);
            let total = if look > 0 { jobs } else { 0 };
            let queue =
                Queue { started: total, finished: total, ..queue("instant", vec![], total) };
            PoolSnapshot {
                queues: Reading::Known { at: now, value: vec![queue] },
                instances: Reading::Known { at: now, value: Vec::new() },
                markets: BTreeMap::new(),
            }
        };
        let pools = policy.pools.keys().map(|name| (name.clone(), pool(name))).collect();
        let planned = plan(policy, &Snapshot { pools }, memory, now);
        memory = planned.memory;
        launched = planned
            .report
            .pools
            .iter()
            .map(|(pool, report)| {
                let PoolReport::Planned(findings) = report else { panic!("{report:?}") };
                (pool.to_string(), findings.wanted)
            })
            .collect();
    }
    launched.into_iter().filter(|(_, wanted)| *wanted > 0).map(|(pool, _)| pool).collect()
}

#[test]
fn a_class_that_is_not_used_yet_keeps_one_worker_where_that_is_cheapest() {
    assert_eq!(warmed(&two_pools(5), &[]), ["cheap"]);
}

#[test]
fn a_class_keeps_a_worker_in_each_pool_that_its_jobs_come_to_if_its_wait_is_short() {
    assert_eq!(warmed(&two_pools(5), &[("dear", 1)]), ["dear"]);
    assert_eq!(warmed(&two_pools(5), &[("cheap", 1), ("dear", 1)]), ["cheap", "dear"]);
    // A boot of three minutes is soon enough for one that may wait for ten.
    assert_eq!(warmed(&two_pools(600), &[("cheap", 1), ("dear", 1)]), ["cheap"]);
}

#[test]
fn a_pool_that_has_a_worker_anyway_is_the_cheapest() {
    let mut policy = two_pools(600);
    policy.pools.get_mut(&name("dear")).unwrap().scaling.min = 1;
    assert_eq!(warmed(&policy, &[]), ["dear"]);
}
