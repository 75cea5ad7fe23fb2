//! What can be learned from the records of a time in which nobody planned.
//!
//! Load, run times and kept promises are in the records, by class and model. Boots, refusals and interruptions are not: what was
//! learned of them stays as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{ClassName, ModelName, PoolName};
use crate::time::Timestamp;

use super::counters::Counters;
use super::demand::News;
use super::demand::history::SLOT;
use super::memory::{Memory, PoolMemory};
use super::policy::{Policy, PoolPolicy};
use super::snapshot::Queue;
use super::terms;

/// What happened to the jobs of one class and model in a slot of the past.
#[derive(Debug, Clone, PartialEq)]
pub struct PastSlot {
    pub class: ClassName,
    pub model: ModelName,
    /// Its begin; it is [`super::INTERVAL`] long.
    pub begins_at: Timestamp,
    pub arrived: u64,
    pub started: u64,
    /// Of those that started, how many had waited longer than their class allows.
    pub started_late: u64,
    pub finished: u64,
    /// Sum of the run times of those that finished, in seconds on a worker of speed 1, and of their squares.
    pub service_seconds: f64,
    pub service_squares: f64,
}

/// The longest past that is lived through.
const LONGEST: Duration = Duration::from_hours(8 * 24);

/// Lives through the past of each pool, from the first record of any of them to `now`, as if the pools had been planned
/// for then. Slots without a record had no jobs: where one pool had some, the records of the others say that they had
/// none. What a pool had learned before is kept, so this is for memories that have not seen that time.
#[must_use]
pub fn recall(
    policy: &Policy,
    past: &BTreeMap<PoolName, Vec<PastSlot>>,
    mut memory: Memory,
    now: Timestamp,
) -> Memory {
    let slots = past.iter().map(|(name, slots)| (name, by_time(slots, now)));
    let slots: BTreeMap<&PoolName, BTreeMap<Timestamp, Counters>> = slots.collect();
    let first = slots.values().filter_map(|slots| slots.keys().next()).min().copied();
    let Some(first) = first else { return memory };
    for (name, slots) in slots {
        if let Some(pool) = policy.pools.get(name) {
            live(pool, memory.pools.entry(name.clone()).or_default(), &slots, (first, now));
        }
    }
    memory
}

/// Lives through one pool's past.
fn live(
    policy: &PoolPolicy,
    memory: &mut PoolMemory,
    slots: &BTreeMap<Timestamp, Counters>,
    (first, now): (Timestamp, Timestamp),
) {
    let boot = memory.boot.or(policy.scaling.boot);
    let demand = &mut memory.demand;
    let mut terms = terms::terms(policy, demand, (boot, None), first);
    // The first look only says where time begins.
    demand.observe(&News::default(), &terms, first);
    let mut begin = first;
    while begin.after(SLOT) <= now {
        let end = begin.after(SLOT);
        let mut news = News::default();
        for counters in slots.range(begin..end).map(|(_, counters)| counters) {
            let mut since = counters.clone();
            since.believed(counters, SLOT);
            let seen: Vec<&ClassName> = since.arrived().collect();
            let is_new = seen.iter().any(|class| !demand.uses(class, end));
            for class in seen {
                demand.see(class, end);
            }
            if is_new {
                terms = terms::terms(policy, demand, (boot, None), end);
            }
            news = news.plus(demand.news(&since, |class| terms::is_prompt(policy, class, boot)));
        }
        demand.observe(&news, &terms, end);
        begin = end;
    }
}

/// The counts of each slot. What is not of the time that is lived through is left out.
fn by_time(slots: &[PastSlot], now: Timestamp) -> BTreeMap<Timestamp, Counters> {
    let lived = now.before(LONGEST)..now;
    let mut by_time: BTreeMap<Timestamp, Counters> = BTreeMap::new();
    for slot in slots.iter().filter(|slot| lived.contains(&slot.begins_at)) {
        let queue = Queue {
            arrived: slot.arrived,
            started: slot.started,
            started_late: slot.started_late,
            finished: slot.finished,
            service_seconds: slot.service_seconds,
            service_squares: slot.service_squares,
            ..Queue::new(slot.class.clone(), slot.model.clone())
        };
        by_time.entry(slot.begins_at).or_default().add(&queue);
    }
    by_time
}

#[cfg(test)]
mod tests {
    use crate::fleet::{Class, Disruption, PoolReport, Scaling, Snapshot, plan};
    use crate::fleet::{PoolSnapshot, Reading};

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_010_000);

    fn policy() -> Policy {
        let class = |max_wait| Class { max_wait, objective: 0.99, cold_start: true };
        let scaling = Scaling {
            min: 0,
            max: 10,
            warm: 0,
            boot: Duration::from_mins(3),
            expire_after: None,
            disruption: Disruption::default(),
            offerings: BTreeMap::new(),
        };
        let classes = BTreeMap::from([
            (ClassName::new("standard").unwrap(), class(Duration::from_mins(1))),
            (ClassName::new("bulk").unwrap(), class(Duration::from_hours(8))),
        ]);
        let pools = BTreeMap::from([(pool(), PoolPolicy { classes, scaling })]);
        Policy { pools, ..Policy::default() }
    }

    fn pool() -> PoolName {
        PoolName::new("default").unwrap()
    }

    /// Four jobs of 30 s a minute, so a load of two, for three hours.
    fn past(class: &str) -> BTreeMap<PoolName, Vec<PastSlot>> {
        let slot = |n: u32| PastSlot {
            class: ClassName::new(class).unwrap(),
            model: ModelName::new("m").unwrap(),
            begins_at: NOW.before(SLOT * n),
            arrived: 1,
            started: 1,
            started_late: 0,
            finished: 1,
            service_seconds: 30.0,
            service_squares: 900.0,
        };
        BTreeMap::from([(pool(), (1..=720).rev().map(slot).collect())])
    }

    fn load(memory: Memory) -> f64 {
        let queue = Queue {
            class: ClassName::new("standard").unwrap(),
            model: ModelName::new("m").unwrap(),
            waiting: Vec::new(),
            running: 2,
            arrived: 0,
            started: 0,
            started_late: 0,
            finished: 0,
            service_seconds: 0.0,
            service_squares: 0.0,
        };
        let observed = PoolSnapshot {
            queues: Reading::Known { at: NOW, value: vec![queue] },
            instances: Reading::Known { at: NOW, value: Vec::new() },
            markets: BTreeMap::new(),
        };
        let snapshot = Snapshot { pools: BTreeMap::from([(pool(), observed)]) };
        let planned = plan(&policy(), &snapshot, memory, NOW);
        match &planned.report.pools[&pool()] {
            PoolReport::Planned(findings) => findings.load,
            PoolReport::Held(hold) => panic!("{hold}"),
        }
    }

    #[test]
    fn the_load_of_the_past_is_expected_again() {
        let learned = recall(&policy(), &past("standard"), Memory::default(), NOW);
        let (learned, empty) = (load(learned), load(Memory::default()));
        assert!((learned - 2.0).abs() < 0.2, "{learned}");
        assert!(empty < 0.1, "an empty memory expects nothing");
    }

    #[test]
    fn what_may_wait_is_not_staffed_for() {
        let learned = recall(&policy(), &past("bulk"), Memory::default(), NOW);
        assert!(load(learned) < 0.1);
    }

    #[test]
    fn absurd_records_and_unknown_pools_do_no_harm() {
        let mut absurd = past("standard");
        for slots in absurd.values_mut() {
            slots[5].arrived = u64::MAX;
            slots[6].service_seconds = f64::NAN;
            slots[7].begins_at = Timestamp::MAX;
            slots[8].begins_at = Timestamp::from_unix_millis(i64::MIN);
        }
        absurd.insert(PoolName::new("other").unwrap(), Vec::new());
        let learned = recall(&policy(), &absurd, Memory::default(), NOW);
        assert!(load(learned).is_finite());
    }

    #[test]
    fn each_class_and_model_is_learned_by_itself() {
        let mut past = past("standard");
        let slots = past.get_mut(&pool()).unwrap();
        let rare: Vec<PastSlot> = slots
            .iter()
            .step_by(10)
            .map(|slot| PastSlot {
                class: ClassName::new("rare").unwrap(),
                model: ModelName::new("long").unwrap(),
                started_late: 1,
                service_seconds: 300.0,
                service_squares: 90_000.0,
                ..slot.clone()
            })
            .collect();
        slots.extend(rare);
        let mut policy = policy();
        let classes = &mut policy.pools.get_mut(&pool()).unwrap().classes;
        let standard = classes[&ClassName::new("standard").unwrap()].clone();
        // Another wait, so that nothing is borrowed.
        let rare = Class { max_wait: Duration::from_mins(2), ..standard };
        classes.insert(ClassName::new("rare").unwrap(), rare);
        let memory = recall(&policy, &past, Memory::default(), NOW);
        let demand = &memory.pools[&pool()].demand;
        let mean = |model: &str| demand.mean_of(&ModelName::new(model).unwrap());
        assert!(
            (mean("m") - 30.0).abs() < 1.0 && (mean("long") - 300.0).abs() < 20.0,
            "{demand:?}"
        );
        let margin = |class: &str| demand.classes[&ClassName::new(class).unwrap()].margin;
        assert!(margin("rare").late_share() > 0.7 && margin("standard").late_share() <= 0.0);
        assert!(margin("rare").deviations() > margin("standard").deviations());
    }

    #[test]
    fn what_came_to_one_pool_says_since_when_the_others_had_nothing() {
        let quiet = PoolName::new("quiet").unwrap();
        let mut policy = policy();
        policy.pools.insert(quiet.clone(), policy.pools[&pool()].clone());
        let mut past = past("standard");
        let late = past[&pool()][719].clone();
        past.insert(quiet.clone(), vec![late]);
        let memory = recall(&policy, &past, Memory::default(), NOW);
        let age = |pool: &PoolName| memory.pools[pool].demand.history.age_minutes();
        assert_eq!(age(&quiet), age(&pool()));
        assert!(age(&quiet) >= 179, "{}", age(&quiet));
    }
}
