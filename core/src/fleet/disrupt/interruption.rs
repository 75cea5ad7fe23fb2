//! The provider takes an instance back: it takes no new work from the notice on, and finishes what it can.

use std::time::Duration;

use crate::fleet::report::RemoveReason;
use crate::fleet::roster::Roster;
use crate::fleet::snapshot::{InstanceState, Notice};
use crate::time::Timestamp;

/// How long an instance that is only likely to be lost may finish its work.
const REBALANCE_DRAIN: Duration = Duration::from_mins(10);

/// Positions to drain, with reason and deadline.
pub(crate) fn drains(roster: &Roster<'_>, now: Timestamp) -> Vec<(usize, RemoveReason, Timestamp)> {
    let mut drains = Vec::new();
    for (at, member) in roster.members.iter().enumerate() {
        let draining = matches!(member.instance.state, InstanceState::Draining { .. });
        let lost_at = match member.instance.notice {
            _ if draining => continue,
            None => continue,
            Some(Notice::Interruption { lost_at }) => Some(lost_at),
            Some(Notice::Rebalance) => None,
        };
        let deadline = lost_at.unwrap_or_else(|| now.after(REBALANCE_DRAIN));
        drains.push((at, RemoveReason::Interrupted { lost_at }, deadline));
    }
    drains
}
