//! The mass-termination guard: of machines that may be at work, only a few end at a time.

use std::collections::BTreeMap;

use crate::fleet::ledger::{Ending, Entry, State};
use crate::ids::MachineId;
use crate::time::Timestamp;

use super::rules::Rules;

/// How many may end blindly in the present window, and how many have.
#[derive(Debug)]
pub(super) struct Guard {
    allowed: u32,
    used: u32,
    held: u32,
}

impl Guard {
    pub(super) fn new(entries: &BTreeMap<MachineId, Entry>, rules: &Rules, now: Timestamp) -> Self {
        let count = |keeps: &dyn Fn(&&Entry) -> bool| {
            u32::try_from(entries.values().filter(keeps).count()).unwrap_or(u32::MAX)
        };
        let used = count(&|entry: &&Entry| {
            let began = entry.times.terminating;
            was_blind(entry) && began.is_some_and(|at| now.since(at) < rules.guard_window)
        });
        // Those that ended in the window were part of the fleet when it began.
        let fleet = count(&|entry: &&Entry| {
            let ended = entry.times.ended;
            ended.is_none_or(|at| now.since(at) < rules.guard_window)
        });
        let share = u64::from(fleet) * u64::from(rules.guard_percent) / 100;
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        Self { allowed: rules.guard_least.max(share), used, held: 0 }
    }

    /// Whether one more may end; if not, it is counted as held.
    pub(super) fn allows(&mut self) -> bool {
        let allows = self.used < self.allowed;
        if allows {
            self.used += 1;
        } else {
            self.held += 1;
        }
        allows
    }

    pub(super) fn held(&self) -> u32 {
        self.held
    }

    pub(super) fn allowed(&self) -> u32 {
        self.allowed
    }
}

fn was_blind(entry: &Entry) -> bool {
    match &entry.state {
        State::Terminating { why, .. } | State::Gone { why: Ending::Terminated(why), .. } => {
            why.is_blind()
        }
        State::Gone { .. }
        | State::Intended
        | State::Requested { .. }
        | State::Launched { .. }
        | State::Ready { .. }
        | State::Draining { .. }
        | State::Failed { .. } => false,
    }
}
