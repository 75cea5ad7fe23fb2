//! Enums: exhaustive on our side, open on the wire, where any number may come in.

use stoker_core::departure::Cause;
use stoker_core::job::{ClaimRefusal, FailureKind, FailureReason, ReleaseReason, StateKind};
use stoker_core::request::Task;

use crate::status::FieldViolation;
use crate::v1;

pub const fn state(kind: StateKind) -> v1::JobState {
    match kind {
        StateKind::Queued => v1::JobState::Queued,
        StateKind::Dispatched => v1::JobState::Dispatched,
        StateKind::Leased => v1::JobState::Leased,
        StateKind::RetryWait => v1::JobState::RetryWait,
        StateKind::Succeeded => v1::JobState::Succeeded,
        StateKind::Failed => v1::JobState::Failed,
        StateKind::Cancelled => v1::JobState::Cancelled,
        StateKind::Expired => v1::JobState::Expired,
    }
}

pub const fn task(task: Task) -> v1::Task {
    match task {
        Task::TextEmbedding => v1::Task::TextEmbedding,
        Task::TextClassification => v1::Task::TextClassification,
        Task::TextGeneration => v1::Task::TextGeneration,
        Task::ImageEmbedding => v1::Task::ImageEmbedding,
        Task::ImageClassification => v1::Task::ImageClassification,
        Task::ImageCaptioning => v1::Task::ImageCaptioning,
        Task::FaceDetection => v1::Task::FaceDetection,
        Task::FaceEmbedding => v1::Task::FaceEmbedding,
        Task::SpeechToText => v1::Task::SpeechToText,
        Task::Echo => v1::Task::Echo,
    }
}

/// The task; `None` for unspecified.
pub fn known_task(wire: v1::Task) -> Option<Task> {
    Task::ALL.into_iter().find(|known| task(*known) == wire)
}

/// The state of this number; `None` for unspecified and for one of a newer peer.
pub fn state_kind(number: i32) -> Option<StateKind> {
    StateKind::ALL.into_iter().find(|kind| i32::from(state(*kind)) == number)
}

/// States to filter by, without repetitions; empty: any.
pub fn state_filter(numbers: &[i32], field: &str) -> Result<Vec<StateKind>, FieldViolation> {
    let mut kinds = Vec::new();
    for (index, number) in numbers.iter().enumerate() {
        let kind = state_kind(*number).ok_or_else(|| {
            FieldViolation::new(format!("{field}[{index}]"), unknown(*number, "a state of a job"))
        })?;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    Ok(kinds)
}

pub const fn wire_failure_reason(reason: FailureReason) -> v1::FailureReason {
    match reason {
        FailureReason::Permanent => v1::FailureReason::Permanent,
        FailureReason::RetriesExhausted => v1::FailureReason::RetriesExhausted,
        FailureReason::Poison => v1::FailureReason::Poison,
    }
}

/// A reason to filter by; `None`: any.
pub fn failure_reason(number: i32, field: &str) -> Result<Option<FailureReason>, FieldViolation> {
    if number == i32::from(v1::FailureReason::Unspecified) {
        return Ok(None);
    }
    FailureReason::ALL
        .into_iter()
        .find(|reason| i32::from(wire_failure_reason(*reason)) == number)
        .map(Some)
        .ok_or_else(|| FieldViolation::new(field, unknown(number, "a reason of failure")))
}

/// How an attempt failed, as the worker says.
pub fn failure_kind(number: i32, field: &str) -> Result<FailureKind, FieldViolation> {
    match v1::FailureKind::try_from(number) {
        Ok(v1::FailureKind::Retryable) => Ok(FailureKind::Retryable),
        Ok(v1::FailureKind::Permanent) => Ok(FailureKind::Permanent),
        Ok(v1::FailureKind::Crash) => Ok(FailureKind::Crash),
        Ok(v1::FailureKind::Unspecified) | Err(_) => {
            Err(FieldViolation::new(field, unknown(number, "a kind of failure")))
        }
    }
}

/// Why a worker gives an attempt back.
pub fn release_reason(number: i32, field: &str) -> Result<ReleaseReason, FieldViolation> {
    match v1::ReleaseReason::try_from(number) {
        Ok(v1::ReleaseReason::Draining) => Ok(ReleaseReason::Draining),
        Ok(v1::ReleaseReason::Interrupted) => Ok(ReleaseReason::Interrupted),
        Ok(v1::ReleaseReason::Unavailable) => Ok(ReleaseReason::Unavailable),
        Ok(v1::ReleaseReason::Stopped) => Ok(ReleaseReason::Stopped),
        Ok(v1::ReleaseReason::Unspecified) | Err(_) => {
            Err(FieldViolation::new(field, unknown(number, "a reason to release")))
        }
    }
}

/// Why a worker goes.
pub const fn drain_cause(cause: v1::DrainCause) -> Option<Cause> {
    match cause {
        v1::DrainCause::Unspecified => None,
        v1::DrainCause::Shutdown => Some(Cause::Shutdown),
        v1::DrainCause::Operator => Some(Cause::Operator),
        v1::DrainCause::Rebalance => Some(Cause::Rebalance),
        v1::DrainCause::Interruption => Some(Cause::Interruption),
        v1::DrainCause::Device => Some(Cause::Device),
    }
}

pub const fn wire_drain_cause(cause: Option<Cause>) -> v1::DrainCause {
    match cause {
        None => v1::DrainCause::Unspecified,
        // The worker tells of the end of its process; nobody hears why it was cut off.
        Some(Cause::CutOff | Cause::Shutdown) => v1::DrainCause::Shutdown,
        Some(Cause::Operator) => v1::DrainCause::Operator,
        Some(Cause::Rebalance) => v1::DrainCause::Rebalance,
        Some(Cause::Interruption) => v1::DrainCause::Interruption,
        Some(Cause::Device) => v1::DrainCause::Device,
    }
}

pub const fn claim_refusal(refusal: ClaimRefusal) -> v1::ClaimRefusal {
    match refusal {
        ClaimRefusal::Busy => v1::ClaimRefusal::Busy,
        ClaimRefusal::Terminal => v1::ClaimRefusal::Terminal,
        ClaimRefusal::Stale => v1::ClaimRefusal::Stale,
    }
}

fn unknown(number: i32, what: &str) -> String {
    if number == 0 {
        format!("is unspecified: name {what}")
    } else {
        format!("{number} is not {what} that this version knows")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_reasons_survive_the_wire() {
        for kind in StateKind::ALL {
            assert_eq!(state_kind(state(kind).into()), Some(kind));
        }
        for reason in FailureReason::ALL {
            let number = wire_failure_reason(reason).into();
            assert_eq!(failure_reason(number, "reason"), Ok(Some(reason)));
        }
        assert_eq!(failure_reason(0, "reason"), Ok(None));
    }

    #[test]
    fn tasks_survive_the_wire() {
        for known in Task::ALL {
            assert_eq!(known_task(task(known)), Some(known));
        }
        assert_eq!(known_task(v1::Task::Unspecified), None);
    }

    #[test]
    fn foreign_numbers_are_refused_where_they_matter() {
        for number in [0, -1, 99, i32::MIN, i32::MAX] {
            assert_eq!(state_kind(number), None);
            assert!(failure_kind(number, "f").is_err());
            assert!(release_reason(number, "f").is_err());
            assert!(number == 0 || failure_reason(number, "f").is_err());
        }
        let error = state_filter(&[1, 1, 0], "states").unwrap_err();
        assert_eq!(error.field, "states[2]");
        assert_eq!(state_filter(&[1, 1], "states"), Ok(vec![StateKind::Queued]));
    }
}
