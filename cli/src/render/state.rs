//! Names of the wire's enumerations, as people type and programs read them.

use clap::ValueEnum;
use stoker_proto::v1::{
    CloudNoticeKind, DrainCause, FailureReason, JobState, ResidencyState, WorkerState,
};

/// A job's state as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateArg {
    Queued,
    Dispatched,
    Leased,
    #[value(name = "retry_wait", alias = "retry-wait")]
    RetryWait,
    Succeeded,
    Failed,
    #[value(alias = "canceled")]
    Cancelled,
    Expired,
}

impl From<StateArg> for JobState {
    fn from(state: StateArg) -> Self {
        match state {
            StateArg::Queued => Self::Queued,
            StateArg::Dispatched => Self::Dispatched,
            StateArg::Leased => Self::Leased,
            StateArg::RetryWait => Self::RetryWait,
            StateArg::Succeeded => Self::Succeeded,
            StateArg::Failed => Self::Failed,
            StateArg::Cancelled => Self::Cancelled,
            StateArg::Expired => Self::Expired,
        }
    }
}

/// Why a job failed, as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReasonArg {
    Permanent,
    #[value(name = "retries_exhausted", alias = "retries-exhausted")]
    RetriesExhausted,
    Poison,
}

impl From<ReasonArg> for FailureReason {
    fn from(reason: ReasonArg) -> Self {
        match reason {
            ReasonArg::Permanent => Self::Permanent,
            ReasonArg::RetriesExhausted => Self::RetriesExhausted,
            ReasonArg::Poison => Self::Poison,
        }
    }
}

/// `queued`, `retry_wait` and the like.
pub(crate) fn job_state(state: i32) -> String {
    name(JobState::try_from(state).ok().map(|s| s.as_str_name()), "JOB_STATE_", state)
}

/// `resident`, `absent` and the like.
pub(crate) fn residency_state(state: i32) -> String {
    let known = ResidencyState::try_from(state).ok().map(|s| s.as_str_name());
    name(known, "RESIDENCY_STATE_", state)
}

/// `ready`, `draining` and the like.
pub(crate) fn worker_state(state: i32) -> String {
    name(WorkerState::try_from(state).ok().map(|s| s.as_str_name()), "WORKER_STATE_", state)
}

/// `interruption`, `operator` and the like; `None` while a worker does not drain.
pub(crate) fn drain_cause(cause: i32) -> Option<String> {
    match DrainCause::try_from(cause) {
        Ok(DrainCause::Unspecified) => None,
        known => Some(name(known.ok().map(|c| c.as_str_name()), "DRAIN_CAUSE_", cause)),
    }
}

/// `rebalance` or `interruption`; `None` while the cloud has announced nothing.
pub(crate) fn cloud_notice(notice: i32) -> Option<String> {
    match CloudNoticeKind::try_from(notice) {
        Ok(CloudNoticeKind::Unspecified) => None,
        known => Some(name(known.ok().map(|n| n.as_str_name()), "CLOUD_NOTICE_KIND_", notice)),
    }
}

/// `poison`, `retries_exhausted` and the like; empty while a job has not failed for good.
pub(crate) fn failure_reason(reason: i32) -> String {
    match FailureReason::try_from(reason) {
        Ok(FailureReason::Unspecified) => String::new(),
        known => name(known.ok().map(|r| r.as_str_name()), "FAILURE_REASON_", reason),
    }
}

/// Whether the state is the job's last.
pub(crate) fn is_terminal(state: i32) -> bool {
    match JobState::try_from(state) {
        Ok(JobState::Succeeded | JobState::Failed | JobState::Cancelled | JobState::Expired) => {
            true
        }
        Ok(
            JobState::Unspecified
            | JobState::Queued
            | JobState::Dispatched
            | JobState::Leased
            | JobState::RetryWait,
        )
        | Err(_) => false,
    }
}

fn name(wire: Option<&str>, prefix: &str, number: i32) -> String {
    wire.map_or_else(
        // A newer coordinator may know more than this command does.
        || format!("unknown_{number}"),
        |name| name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_reads_as_it_is_typed() {
        for arg in StateArg::value_variants() {
            let typed = arg.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(job_state(JobState::from(*arg) as i32), typed);
        }
        for arg in ReasonArg::value_variants() {
            let typed = arg.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(failure_reason(FailureReason::from(*arg) as i32), typed);
        }
    }

    #[test]
    fn what_a_newer_coordinator_says_is_shown_as_a_number() {
        assert_eq!(job_state(99), "unknown_99");
        assert!(!is_terminal(99));
    }
}
