//! Numbers for (tenant, class, pool, model), and how many jobs each has in each state.

use std::sync::{Arc, PoisonError, RwLock};

use stoker_core::ids::{ClassName, TenantName};
use stoker_core::job::StateKind;

use super::counts::{Counts, StateCounts};
use super::types::Lane;

/// Row number of a lane.
pub(super) type LaneId = i64;

/// What a lane's number stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LaneNames {
    pub(super) tenant: TenantName,
    pub(super) class: ClassName,
    pub(super) lane: Lane,
}

/// A lane with its counts.
#[derive(Debug, Clone)]
pub(super) struct LaneEntry {
    pub(super) id: LaneId,
    pub(super) names: Arc<LaneNames>,
    pub(super) counts: StateCounts,
}

/// All lanes; one for whoever writes and reads. Few: scanning them is cheap.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedLanes(Arc<RwLock<Vec<LaneEntry>>>);

/// One job's move between states; `None` is "not stored".
#[derive(Debug, Clone, Copy)]
pub(super) struct Delta {
    pub(super) lane: LaneId,
    pub(super) from: Option<StateKind>,
    pub(super) to: Option<StateKind>,
}

impl SharedLanes {
    pub(super) fn new(entries: Vec<LaneEntry>) -> Self {
        Self(Arc::new(RwLock::new(entries)))
    }

    pub(super) fn len(&self) -> usize {
        self.read(<[LaneEntry]>::len)
    }

    /// Forgets the lanes that were made after there were `len`: their transaction was undone.
    pub(super) fn forget_from(&self, len: usize) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).truncate(len);
    }

    /// The number of a lane that is known.
    pub(super) fn id(&self, names: &LaneNames) -> Option<LaneId> {
        self.read(|entries| {
            entries.iter().find(|entry| *entry.names == *names).map(|entry| entry.id)
        })
    }

    /// Takes in a lane, unless it is known.
    pub(super) fn add(&self, id: LaneId, names: LaneNames) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if entries.iter().all(|entry| entry.id != id) {
            let counts = StateCounts::default();
            entries.push(LaneEntry { id, names: Arc::new(names), counts });
        }
    }

    pub(super) fn names(&self, id: LaneId) -> Option<Arc<LaneNames>> {
        self.read(|entries| {
            entries.iter().find(|entry| entry.id == id).map(|entry| Arc::clone(&entry.names))
        })
    }

    /// A condition on the column `lane` that holds for the lanes that match; empty when all do.
    pub(super) fn condition(&self, matches: impl Fn(&LaneNames) -> bool) -> String {
        let wanted = self.matching(matches);
        if wanted.len() == self.len() {
            return String::new();
        }
        // No lane has the number 0; the list must not be empty.
        let ids = wanted.iter().map(|entry| entry.id.to_string());
        let ids: Vec<String> = ids.chain(["0".to_owned()]).collect();
        format!(" AND lane IN ({})", ids.join(", "))
    }

    /// Lanes that match, with their counts.
    pub(super) fn matching(&self, matches: impl Fn(&LaneNames) -> bool) -> Vec<LaneEntry> {
        self.read(|entries| entries.iter().filter(|entry| matches(&entry.names)).cloned().collect())
    }

    /// Moves jobs between states, once that is committed.
    pub(super) fn apply(&self, deltas: &[Delta]) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for delta in deltas {
            if let Some(entry) = entries.iter_mut().find(|entry| entry.id == delta.lane) {
                if let Some(from) = delta.from {
                    entry.counts.remove(from, 1);
                }
                if let Some(to) = delta.to {
                    entry.counts.add(to, 1);
                }
            }
        }
    }

    /// Puts other counts in the place of all that there are.
    pub(super) fn reset(&self, counts: &[(LaneId, StateKind, u64)]) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for entry in entries.iter_mut() {
            entry.counts = StateCounts::default();
            for (_, state, jobs) in counts.iter().filter(|(lane, _, _)| *lane == entry.id) {
                entry.counts.add(*state, *jobs);
            }
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.read(|entries| {
            let mut counts = Counts::default();
            for entry in entries {
                let LaneNames { tenant, class, lane } = &*entry.names;
                let key = (lane.clone(), tenant.clone(), class.clone());
                counts.0.entry(key).or_default().merge(&entry.counts);
            }
            counts
        })
    }

    fn read<T>(&self, read: impl FnOnce(&[LaneEntry]) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
