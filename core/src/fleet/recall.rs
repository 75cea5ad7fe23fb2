//! What can be learned from the records of a time in which nobody planned.
//!
//! Load, run times and kept promises are in the records. Boots, refusals and interruptions are not: what was
//! learned of them stays as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{ClassName, PoolName};
use crate::time::Timestamp;

use super::demand::News;
use super::demand::history::SLOT;
use super::memory::Memory;
use super::policy::{Policy, PoolPolicy};
use super::pool;

/// What happened to the jobs of one class in a slot of the past.
#[derive(Debug, Clone, PartialEq)]
pub struct PastSlot {
    pub class: ClassName,
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

/// Lives through the past of each pool from its first record to `now`, as if the pools had been planned for then.
/// Slots without a record had no jobs. What a pool had learned before is kept, so this is for memories that
/// have not seen that time.
#[must_use]
pub fn recall(
    policy: &Policy,
    past: &BTreeMap<PoolName, Vec<PastSlot>>,
    mut memory: Memory,
    now: Timestamp,
) -> Memory {
    for (name, slots) in past {
        let Some(pool_policy) = policy.pools.get(name) else { continue };
        let pool_memory = memory.pools.entry(name.clone()).or_default();
        let terms = pool::terms(pool_policy, pool_memory.boot.or(pool_policy.scaling.boot));
        let slots = by_time(pool_policy, slots, terms.boot);
        let Some(first) = slots.keys().next() else { continue };
        let mut begin = (*first).max(now.before(LONGEST));
        // The first look only says where time begins.
        pool_memory.demand.observe(News::default(), &terms, begin);
        while begin.after(SLOT) <= now {
            let end = begin.after(SLOT);
            let slot = slots.range(begin..end).map(|(_, slot)| *slot);
            let slot = slot.fold(Slot::default(), Slot::plus);
            let (finished, seconds, squares) = slot.finished;
            pool_memory.demand.service.observe(finished, seconds, squares);
            pool_memory.demand.observe(slot.news, &terms, end);
            begin = end;
        }
    }
    memory
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    news: News,
    finished: (f64, f64, f64),
}

impl Slot {
    fn plus(self, other: Self) -> Self {
        let news = News {
            arrived: self.news.arrived + other.news.arrived,
            started: self.news.started.saturating_add(other.news.started),
            started_late: self.news.started_late.saturating_add(other.news.started_late),
            cold: false,
        };
        let (a, b) = (self.finished, other.finished);
        Self { news, finished: (a.0 + b.0, a.1 + b.1, a.2 + b.2) }
    }
}

/// All classes together, as the planner counts them: bulk classes have run times only.
fn by_time(policy: &PoolPolicy, slots: &[PastSlot], boot: Duration) -> BTreeMap<Timestamp, Slot> {
    let mut by_time: BTreeMap<Timestamp, Slot> = BTreeMap::new();
    for slot in slots {
        let class = policy.classes.get(&slot.class);
        let bulk = class.is_some_and(|class| PoolPolicy::is_bulk(class, boot));
        let (arrived, started, started_late) =
            if bulk { (0, 0, 0) } else { (slot.arrived, slot.started, slot.started_late) };
        let finished =
            (super::number::real(slot.finished), slot.service_seconds, slot.service_squares);
        let arrived = super::number::real(arrived);
        let news = News { arrived, started, started_late, cold: false };
        let all = by_time.entry(slot.begins_at).or_default();
        *all = all.plus(Slot { news, finished });
    }
    by_time
}

#[cfg(test)]
mod tests {
    use crate::fleet::{Class, PoolReport, Scaling, Snapshot, plan};
    use crate::fleet::{PoolSnapshot, Queue, Reading};
    use crate::ids::ModelName;

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
}
