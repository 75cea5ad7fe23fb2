//! How many jobs there are, over all coordinators: a count read once, and every change since.
//!
//! The count was read in a known snapshot. Of the transactions that the snapshot did not see, those of
//! this coordinator are added when they commit, and those of the others when their events arrive: each
//! exactly once. So a coordinator's own changes count at once, and the others' as soon as it hears.

use std::sync::{Mutex, MutexGuard, PoisonError};

use stoker_core::job::StateKind;

use crate::store::lanes::{Delta, LaneId, SharedLanes};

use super::snapshot::Snapshot;

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) lanes: SharedLanes,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counted_in: Snapshot,
    /// Own transactions since a new count began: it may or may not have seen them.
    since: Option<Vec<(u64, Vec<Delta>)>>,
}

impl Ledger {
    pub(super) fn new(lanes: SharedLanes) -> Self {
        Self { lanes, state: Mutex::default() }
    }

    /// Takes in what this coordinator has committed.
    pub(super) fn own(&self, xid: u64, deltas: &[Delta]) {
        let mut state = self.state();
        if !state.counted_in.sees(xid) {
            self.lanes.apply(deltas);
        }
        if let Some(since) = &mut state.since {
            since.push((xid, deltas.to_vec()));
        }
    }

    /// Takes in what another coordinator has committed. Only one task may follow the others.
    pub(super) fn foreign(&self, deltas: &[Delta]) {
        self.lanes.apply(deltas);
    }

    /// A new count begins.
    pub(super) fn begin_count(&self) {
        self.state().since = Some(Vec::new());
    }

    /// Puts a new count in the place of the old one.
    pub(super) fn counted(&self, snapshot: Snapshot, counts: &[(LaneId, StateKind, u64)]) {
        let mut state = self.state();
        self.lanes.reset(counts);
        for (xid, deltas) in state.since.take().unwrap_or_default() {
            if !snapshot.sees(xid) {
                self.lanes.apply(&deltas);
            }
        }
        state.counted_in = snapshot;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use stoker_core::ids::{ClassName, ModelName, PoolName, TenantName};

    use super::*;
    use crate::store::lanes::LaneNames;
    use crate::store::{Lane, StateCounts};

    fn ledger() -> Ledger {
        let lanes = SharedLanes::default();
        let pool = PoolName::new("cpu").unwrap();
        let lane = Lane { pool, model: ModelName::new("mini").unwrap() };
        let tenant = TenantName::new("t").unwrap();
        lanes.add(1, LaneNames { tenant, class: ClassName::new("c").unwrap(), lane });
        Ledger::new(lanes)
    }

    fn queued(ledger: &Ledger) -> u64 {
        let counts: StateCounts = ledger.lanes.counts().total();
        counts.get(StateKind::Queued)
    }

    const ONE_MORE: [Delta; 1] = [Delta { lane: 1, from: None, to: Some(StateKind::Queued) }];

    #[test]
    fn every_transaction_counts_once_whenever_the_count_was_read() {
        let ledger = ledger();
        ledger.begin_count();
        ledger.counted(Snapshot::parse("10:10:").unwrap(), &[(1, StateKind::Queued, 5)]);
        ledger.own(12, &ONE_MORE);
        ledger.foreign(&ONE_MORE);
        assert_eq!(queued(&ledger), 7);
        // A new count is read while four of our transactions commit: before, after and around it.
        ledger.begin_count();
        ledger.own(20, &ONE_MORE);
        ledger.own(21, &ONE_MORE);
        assert_eq!(queued(&ledger), 9);
        ledger.counted(Snapshot::parse("21:24:21,23").unwrap(), &[(1, StateKind::Queued, 100)]);
        assert_eq!(queued(&ledger), 101, "it has seen 20, but not 21");
        ledger.own(22, &ONE_MORE);
        assert_eq!(queued(&ledger), 101, "it has seen 22");
        ledger.own(23, &ONE_MORE);
        assert_eq!(queued(&ledger), 102, "it has not seen 23");
    }
}
