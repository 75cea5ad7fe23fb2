//! Instances that never became ready, fell silent, or did not finish draining.

use std::time::Duration;

use crate::fleet::report::{Note, RemoveReason};
use crate::fleet::roster::Roster;
use crate::fleet::snapshot::InstanceState;
use crate::time::Timestamp;

/// A boot may take this many times as long as usual, and at least the second.
const BOOT_FACTOR: u32 = 4;
const LEAST_BOOT: Duration = Duration::from_mins(15);
/// A worker that is silent for longer is gone; it renews its lease every few seconds.
const SILENCE: Duration = Duration::from_mins(5);
/// Longest drain.
pub(crate) const DRAIN: Duration = Duration::from_hours(1);

/// Positions to terminate, with reasons. When most of a pool looks dead, the observation is likelier to be
/// wrong than the pool: then only a few go, and an operator decides on the others.
pub(crate) fn dead(
    roster: &Roster<'_>,
    boot: Duration,
    now: Timestamp,
) -> (Vec<(usize, RemoveReason)>, Option<Note>) {
    let longest_boot = boot.saturating_mul(BOOT_FACTOR).max(LEAST_BOOT);
    let mut dead: Vec<(usize, RemoveReason)> = Vec::new();
    for (at, member) in roster.members.iter().enumerate() {
        let silent = now.since(member.instance.seen_at);
        let reason = match member.instance.state {
            InstanceState::Booting if member.age(now) > longest_boot => {
                Some(RemoveReason::Dead { silent: member.age(now) })
            }
            InstanceState::Ready { .. } if silent > SILENCE => Some(RemoveReason::Dead { silent }),
            InstanceState::Draining { since, .. } if now.since(since) > DRAIN => {
                Some(RemoveReason::DrainOverdue { since })
            }
            InstanceState::Booting
            | InstanceState::Ready { .. }
            | InstanceState::Draining { .. } => None,
        };
        dead.extend(reason.map(|reason| (at, reason)));
    }
    let allowed = (roster.members.len() / 10).max(3);
    if dead.len() <= allowed {
        return (dead, None);
    }
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let note = Note::MassRemoval { dead: count(dead.len()), allowed: count(allowed) };
    dead.truncate(allowed);
    (dead, Some(note))
}
