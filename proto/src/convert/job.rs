//! Jobs and attempts for clients and operators.

use stoker_core::ids::Attempt;
use stoker_core::job::{AttemptRecord, Failure, JobRecord, State};
use stoker_core::time::Timestamp;

use crate::v1;

use super::enums::{state, wire_failure_reason};
use super::time::wire_timestamp;

/// A job as clients see it.
pub fn job(record: &JobRecord) -> v1::Job {
    let job = &record.job;
    let (failure, retry_at) = match &job.state {
        State::Failed => (job.failure.as_ref(), None),
        State::RetryWait { until } => (job.failure.as_ref(), Some(*until)),
        State::Queued
        | State::Dispatched { .. }
        | State::Leased(_)
        | State::Succeeded
        | State::Cancelled
        | State::Expired => (None, None),
    };
    let lease = job.lease();
    v1::Job {
        id: job.id.to_string(),
        tenant: record.tenant.to_string(),
        class: record.class.to_string(),
        pool: record.pool.to_string(),
        model: record.model.to_string(),
        state: state(job.state.kind()).into(),
        failure: failure.map(wire_failure),
        attempts: job.last_attempt.map_or(0, Attempt::number),
        failures: job.spent.failures,
        crashes: job.spent.crashes,
        lost_workers: job.spent.lost_workers,
        interruptions: job.spent.interruptions,
        items_total: job.items_total,
        items_done: job.items_done,
        accepted_at: Some(wire_timestamp(job.accepted_at)),
        started_at: job.started_at.map(wire_timestamp),
        finished_at: job.finished_at.map(wire_timestamp),
        deadline_at: (job.deadline_at != Timestamp::MAX).then(|| wire_timestamp(job.deadline_at)),
        retry_at: retry_at.map(wire_timestamp),
        worker_id: lease.map(|lease| lease.worker.to_string()).unwrap_or_default(),
        labels: record.labels.clone(),
        input_bytes: record.input_bytes,
        result_bytes: record.result_bytes,
        retry_of: record.retry_of.map(|id| id.to_string()).unwrap_or_default(),
        retried_as: record.retried_as.map(|id| id.to_string()).unwrap_or_default(),
        cancel_requested: lease.is_some_and(|lease| lease.cancel_requested_at.is_some()),
        dispatches: job.dispatch_seq.number(),
    }
}

/// An attempt as operators see it.
pub fn attempt_record(record: &AttemptRecord) -> v1::AttemptRecord {
    v1::AttemptRecord {
        attempt: record.attempt.number(),
        worker_id: record.worker.to_string(),
        started_at: Some(wire_timestamp(record.started_at)),
        ended_at: record.ended_at.map(wire_timestamp),
        outcome: record.outcome.name().to_owned(),
        code: record.code.clone(),
        message: record.message.clone(),
    }
}

fn wire_failure(failure: &Failure) -> v1::Failure {
    v1::Failure {
        reason: wire_failure_reason(failure.reason).into(),
        code: failure.code.clone(),
        message: failure.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use stoker_core::ids::{
        ClaimId, ClassName, DispatchSeq, JobId, LeaseToken, ModelName, PoolName, TenantName,
        WorkerId,
    };
    use stoker_core::job::{AttemptOutcome, FailureReason, Job, Lease};
    use stoker_core::request::Task;

    use super::*;

    fn record() -> JobRecord {
        let now = Timestamp::from_unix_millis(1500);
        JobRecord {
            job: Job::accepted(JobId::from_bytes([1; 16]), 3, now, Timestamp::MAX),
            tenant: TenantName::new("t").unwrap(),
            class: ClassName::new("c").unwrap(),
            pool: PoolName::new("p").unwrap(),
            model: ModelName::new("m").unwrap(),
            task: Task::TextEmbedding,
            labels: [("a".to_owned(), "b".to_owned())].into(),
            input_bytes: 7,
            result_bytes: 0,
            retry_of: Some(JobId::from_bytes([2; 16])),
            retried_as: None,
        }
    }

    #[test]
    fn a_queued_job_has_no_deadline_worker_or_failure() {
        let wire = job(&record());
        assert_eq!(wire.state(), v1::JobState::Queued);
        assert_eq!((wire.deadline_at, wire.retry_at, wire.started_at), (None, None, None));
        assert_eq!((wire.attempts, wire.worker_id.as_str(), wire.failure), (0, "", None));
        assert_eq!(wire.retry_of, JobId::from_bytes([2; 16]).to_string());
        assert_eq!(wire.accepted_at.unwrap().nanos, 500_000_000);
        assert_eq!(wire.labels["a"], "b");
    }

    #[test]
    fn a_leased_job_names_its_worker_and_never_its_token() {
        let mut record = record();
        let now = Timestamp::from_unix_millis(2000);
        record.job.last_attempt = Some(Attempt::FIRST);
        record.job.dispatch_seq = DispatchSeq::new(4);
        record.job.state = State::Leased(Lease {
            attempt: Attempt::FIRST,
            token: LeaseToken::from_bytes([9; 16]),
            worker: WorkerId::from_bytes([5; 16]),
            claim: ClaimId::from_bytes([6; 16]),
            expires_at: now,
            must_end_by: now,
            cancel_requested_at: Some(now),
        });
        let wire = job(&record);
        assert_eq!(wire.worker_id, WorkerId::from_bytes([5; 16]).to_string());
        assert!(wire.cancel_requested);
        assert_eq!((wire.attempts, wire.dispatches), (1, 4));
        assert!(!format!("{wire:?}").contains("09090909"));
    }

    #[test]
    fn the_last_error_shows_while_it_matters() {
        let mut record = record();
        record.job.failure = Some(Failure {
            reason: FailureReason::RetriesExhausted,
            code: "OUT_OF_MEMORY".to_owned(),
            message: "m".to_owned(),
        });
        let until = Timestamp::from_unix_millis(9000);
        record.job.state = State::RetryWait { until };
        let wire = job(&record);
        assert_eq!(wire.failure.as_ref().unwrap().code, "OUT_OF_MEMORY");
        assert_eq!(wire.failure.unwrap().reason(), v1::FailureReason::RetriesExhausted);
        assert_eq!(wire.retry_at.unwrap().seconds, 9);
        record.job.state = State::Queued;
        assert_eq!(job(&record).failure, None);
    }

    #[test]
    fn attempts_are_told_by_name() {
        let wire = attempt_record(&AttemptRecord {
            attempt: Attempt::FIRST,
            worker: WorkerId::from_bytes([5; 16]),
            started_at: Timestamp::from_unix_millis(1000),
            ended_at: None,
            outcome: AttemptOutcome::WorkerLost,
            code: String::new(),
            message: String::new(),
        });
        assert_eq!((wire.outcome.as_str(), wire.ended_at), ("worker lost", None));
    }
}
