//! How many jobs there are, by queue, tenant, class and state.

use std::collections::BTreeMap;

use stoker_core::ids::{ClassName, TenantName};
use stoker_core::job::StateKind;

use super::types::Lane;

/// Jobs by state. With several coordinators a job may be seen to leave a state before it is seen to
/// enter it, so a number can be below zero for a moment; it is shown as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateCounts([i64; StateKind::ALL.len()]);

impl StateCounts {
    pub fn get(&self, state: StateKind) -> u64 {
        u64::try_from(self.0[Self::index(state)]).unwrap_or(0)
    }

    pub(crate) fn add(&mut self, state: StateKind, jobs: u64) {
        self.0[Self::index(state)] += i64::try_from(jobs).unwrap_or(i64::MAX);
    }

    pub(crate) fn remove(&mut self, state: StateKind, jobs: u64) {
        self.0[Self::index(state)] -= i64::try_from(jobs).unwrap_or(i64::MAX);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Dispatched or leased.
    pub fn in_flight(&self) -> u64 {
        self.get(StateKind::Dispatched) + self.get(StateKind::Leased)
    }

    /// Jobs that have not ended.
    pub fn open(&self) -> u64 {
        let open = StateKind::ALL.into_iter().filter(|state| !state.is_terminal());
        open.map(|state| self.get(state)).sum()
    }

    fn index(state: StateKind) -> usize {
        usize::from(state.number() - 1)
    }
}

/// Jobs by queue, tenant, class and state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts(pub(crate) BTreeMap<(Lane, TenantName, ClassName), StateCounts>);

impl Counts {
    pub fn total(&self) -> StateCounts {
        self.sum(|_, _| true)
    }

    pub fn of_lane(&self, lane: &Lane) -> StateCounts {
        self.sum(|of, _| of == lane)
    }

    pub fn of_tenant(&self, tenant: &TenantName) -> StateCounts {
        self.sum(|_, of| of == tenant)
    }

    /// Queues that hold or held jobs.
    pub fn lanes(&self) -> Vec<Lane> {
        let mut lanes: Vec<Lane> = self.0.keys().map(|(lane, _, _)| lane.clone()).collect();
        lanes.dedup();
        lanes
    }

    fn sum(&self, matches: impl Fn(&Lane, &TenantName) -> bool) -> StateCounts {
        let mut sum = StateCounts::default();
        for ((lane, tenant, _), counts) in &self.0 {
            if matches(lane, tenant) {
                sum.merge(counts);
            }
        }
        sum
    }
}
