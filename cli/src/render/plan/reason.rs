//! Reasons: a name for programs, and words in which times are spans from now.

use stoker_core::fleet::{Note, RemoveReason};
use stoker_core::time::Timestamp;

use crate::render::time::span;

pub(super) const fn note_kind(note: &Note) -> &'static str {
    match note {
        Note::Enough { .. } => "enough",
        Note::HeldWant { .. } => "held-want",
        Note::Silence(_) => "silence",
        Note::KeptWarm { .. } => "kept-warm",
        Note::Bounded { .. } => "bounded",
        Note::NoRoom(_) => "no-room",
        Note::Capped { .. } => "capped",
        Note::Paused { .. } => "paused",
        Note::NothingAvailable { .. } => "nothing-available",
        Note::Patient { .. } => "patient",
        Note::Surplus { .. } => "surplus",
        Note::Waits { .. } => "waits",
        Note::Withheld { .. } => "withheld",
        Note::Marked { .. } => "marked",
        Note::OtherSizes { .. } => "other-sizes",
        Note::CounterReset => "counter-reset",
        Note::ManyJobs { .. } => "many-jobs",
        Note::LongRuns { .. } => "long-runs",
        Note::EndlessWork { .. } => "endless-work",
        Note::UnknownOffering { .. } => "unknown-offering",
        Note::MassRemoval { .. } => "mass-removal",
    }
}

pub(super) fn removal(reason: &RemoveReason, now: Timestamp) -> String {
    match reason {
        RemoveReason::Interrupted { lost_at: Some(at) } => {
            format!("the provider takes it back in {}", span(at.since(now)))
        }
        RemoveReason::DrainOverdue { since } => {
            format!("draining for {}, longer than it may", span(now.since(*since)))
        }
        RemoveReason::Empty { .. }
        | RemoveReason::Spare { .. }
        | RemoveReason::CalledOff { .. }
        | RemoveReason::Interrupted { lost_at: None }
        | RemoveReason::Dead { .. }
        | RemoveReason::Cheaper
        | RemoveReason::Resized
        | RemoveReason::Outdated
        | RemoveReason::Expired { .. } => reason.to_string(),
    }
}

pub(super) fn note(note: &Note, now: Timestamp) -> String {
    match note {
        Note::Paused { offering, until } => {
            format!("{offering} is not tried for {}", span(until.since(now)))
        }
        other => other.to_string(),
    }
}
