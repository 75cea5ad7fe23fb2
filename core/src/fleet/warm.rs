//! Pools that keep a worker for a class whose jobs may not wait for a boot.
//!
//! A model is served by one pool, so the pools to which a class's jobs come are those that matter to it. Where its wait
//! is shorter than a boot, each of them keeps a worker; of the others one does, the cheapest. A class that has not been
//! seen anywhere keeps one in the cheapest pool of all. `min` keeps one in any case.

use std::collections::BTreeMap;

use crate::ids::{ClassName, PoolName};
use crate::time::Timestamp;

use super::memory::Memory;
use super::policy::{Policy, PoolPolicy};

/// The pools that keep a worker, each with a class for which it does.
pub(crate) fn pools<'a>(
    policy: &'a Policy,
    memory: &Memory,
    now: Timestamp,
) -> BTreeMap<&'a PoolName, &'a ClassName> {
    let mut warm = BTreeMap::new();
    let kept = |(name, pool): (&'a PoolName, &'a PoolPolicy)| {
        let never_cold = pool.classes.iter().filter(|(_, class)| !class.cold_start);
        never_cold.map(move |(class, _)| (class, (name, pool)))
    };
    let mut by_class: BTreeMap<&ClassName, Vec<(&PoolName, &PoolPolicy)>> = BTreeMap::new();
    for (class, pool) in policy.pools.iter().flat_map(kept) {
        by_class.entry(class).or_default().push(pool);
    }
    for (class, pools) in by_class {
        let memory_of = |name: &PoolName| memory.pools.get(name);
        let comes = |(name, _): &&(&PoolName, &PoolPolicy)| {
            memory_of(name).is_some_and(|pool| pool.demand.uses(class, now))
        };
        let used: Vec<_> = pools.iter().filter(comes).copied().collect();
        let candidates = if used.is_empty() { &pools } else { &used };
        let needs = |(name, pool): &&(&PoolName, &PoolPolicy)| {
            let boot = memory_of(name).map_or(pool.scaling.boot, |m| m.boot.or(pool.scaling.boot));
            pool.classes.get(class).is_some_and(|class| class.max_wait < boot)
        };
        let cheapest = candidates
            .iter()
            .min_by(|(_, a), (_, b)| cost_of_one(a).total_cmp(&cost_of_one(b)))
            .map(|(name, _)| *name);
        let needed = used.iter().filter(needs).map(|(name, _)| *name);
        for name in needed.chain(cheapest) {
            warm.entry(name).or_insert(class);
        }
    }
    warm
}

/// Dollars an hour for a worker of a pool that would else have none.
fn cost_of_one(pool: &PoolPolicy) -> f64 {
    let scaling = &pool.scaling;
    if scaling.max == 0 {
        return f64::INFINITY;
    }
    if scaling.min > 0 || scaling.warm > 0 {
        return 0.0;
    }
    let prices = scaling.offerings.values().map(|offering| offering.price.hour().dollars());
    prices.min_by(f64::total_cmp).unwrap_or(f64::INFINITY)
}
