//! Which of several workers are told of the jobs of a queue, so that not all of them load its model for one job.
//!
//! Nobody is commanded: what a worker does about the jobs it is told of is its own rule's business, and any worker
//! that has the model takes jobs of the queue.

use std::collections::BTreeMap;

use crate::ids::{ModelName, WorkerId};
use crate::time::Timestamp;

/// What waits in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub jobs: u64,
    /// When the first of them has to start.
    pub start_by: Timestamp,
}

/// A worker that serves the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    pub worker: WorkerId,
    /// Jobs of the model that it takes at once.
    pub slots: u32,
    pub standing: Standing,
}

/// How near a worker is to having the model, the nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has it, or loads it.
    Has,
    /// It would have to load it, and has nothing else to do.
    Idle,
    /// It would have to load it, and works.
    Busy,
}

/// How many of the jobs each worker is told of; those that are told of none are left out.
///
/// Those that have the model share the jobs; others join them only for so many that those cannot be at them soon.
/// When the first job should have started by now, all are told: whoever was to do it did not.
pub fn share(
    model: &ModelName,
    waiting: &Waiting,
    holders: &[Holder],
    now: Timestamp,
) -> BTreeMap<WorkerId, u64> {
    if waiting.jobs == 0 {
        return BTreeMap::new();
    }
    let mut order: Vec<&Holder> = holders.iter().collect();
    // The same worker is the first for a model each time, and not for all models the same one.
    order.sort_by_key(|holder| (holder.standing, turn(model, holder.worker), holder.worker));
    let told = if waiting.start_by <= now { order.len() } else { enough(waiting.jobs, &order) };
    let parts = u64::try_from(told).unwrap_or(u64::MAX).max(1);
    let each = waiting.jobs.div_ceil(parts);
    order.into_iter().take(told).map(|holder| (holder.worker, each)).collect()
}

/// How many from the front are enough for the jobs: each can have its slots full and as many waiting.
fn enough(jobs: u64, order: &[&Holder]) -> usize {
    let mut room = 0_u64;
    let full = |holder: &&&Holder| {
        let more = holder.standing == Standing::Has || room < jobs;
        room = room.saturating_add(u64::from(holder.slots).saturating_mul(2).max(1));
        more
    };
    order.iter().take_while(full).count()
}

/// Mixes both names (FNV-1a, and the end of Murmur3), so that models are spread over workers.
fn turn(model: &ModelName, worker: WorkerId) -> u64 {
    let bytes = model.as_str().bytes().chain(worker.as_bytes().iter().copied());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_millis(1_000);

    fn mini() -> ModelName {
        ModelName::new("mini").unwrap()
    }

    fn holder(number: u8, standing: Standing) -> Holder {
        Holder { worker: WorkerId::from_bytes([number; 16]), slots: 4, standing }
    }

    fn told(jobs: u64, slack: i64, holders: &[Holder]) -> Vec<(u8, u64)> {
        let start_by = Timestamp::from_unix_millis(NOW.as_unix_millis() + slack);
        let told = share(&mini(), &Waiting { jobs, start_by }, holders, NOW);
        told.into_iter().map(|(worker, jobs)| (worker.as_bytes()[0], jobs)).collect()
    }

    #[test]
    fn one_worker_loads_a_model_for_one_job() {
        use Standing::{Busy, Has, Idle};
        assert_eq!(told(1, 100, &[holder(1, Busy), holder(2, Idle), holder(3, Has)]), [(3, 1)]);
        assert_eq!(told(1, 100, &[holder(1, Busy), holder(2, Idle), holder(3, Busy)]), [(2, 1)]);
        assert_eq!(told(1, 0, &[holder(1, Busy), holder(2, Idle)]), [(1, 1), (2, 1)], "it is late");
        assert_eq!(told(8, 100, &[holder(1, Busy), holder(3, Has)]), [(3, 8)]);
        assert_eq!(told(9, 100, &[holder(1, Busy), holder(3, Has)]), [(1, 5), (3, 5)]);
        assert!(told(0, 0, &[holder(1, Has)]).is_empty());
    }

    #[test]
    fn models_are_spread_over_workers_that_are_alike() {
        let holders: Vec<Holder> = (1..=4).map(|n| holder(n, Standing::Idle)).collect();
        let waiting = Waiting { jobs: 1, start_by: Timestamp::MAX };
        let mut loads = BTreeMap::new();
        for number in 0..40 {
            let model = ModelName::new(&format!("m{number}")).unwrap();
            let told = share(&model, &waiting, &holders, NOW);
            assert_eq!(told.len(), 1);
            *loads.entry(told.into_keys().next()).or_insert(0) += 1;
        }
        assert!(loads.len() == 4 && loads.values().all(|n| *n < 20), "{loads:?}");
    }

    fn any_holders() -> impl Strategy<Value = Vec<Holder>> {
        let standing = prop_oneof![Just(Standing::Has), Just(Standing::Idle), Just(Standing::Busy)];
        vec((any::<u32>(), standing), 0..6).prop_map(|all| {
            let one = |((slots, standing), n)| Holder { slots, ..holder(n, standing) };
            all.into_iter().zip(1..).map(one).collect()
        })
    }

    proptest! {
        /// Every job is somebody's, all are told of one that is late, and the order told does not matter.
        #[test]
        fn no_job_is_nobody_s(jobs in any::<u64>(), slack in -2_i64..3, holders in any_holders()) {
            let shared = told(jobs, slack, &holders);
            let all: u128 = shared.iter().map(|(_, jobs)| u128::from(*jobs)).sum();
            prop_assert!(holders.is_empty() || all >= u128::from(jobs));
            prop_assert!(slack > 0 || jobs == 0 || shared.len() == holders.len());
            prop_assert!(shared.iter().all(|(_, jobs)| *jobs > 0));
            let mut turned = holders;
            turned.reverse();
            prop_assert_eq!(told(jobs, slack, &turned), shared);
        }
    }
}
