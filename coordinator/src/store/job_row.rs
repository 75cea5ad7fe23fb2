//! A job as it is stored, without input and results, and its columns, which every store has.

use std::sync::Arc;

use stoker_core::ids::{Attempt, ClaimId, DispatchSeq, JobId, LeaseToken, WorkerId};
use stoker_core::job::{
    Budgets, Failure, FailureReason, Job, JobRecord, Lease, State, StateKind, next_due,
};
use stoker_core::policy::LeasePolicy;
use stoker_core::request::{Labels, Task};
use stoker_core::time::Timestamp;
use stoker_runtime::trace_context::TraceContext;

use super::StoreError;
use super::lanes::{LaneId, LaneNames, SharedLanes};
use super::types::NewJob;

/// A job as it is stored.
#[derive(Debug, Clone)]
pub(super) struct StoredJob {
    pub(super) job: Job,
    pub(super) lane: LaneId,
    pub(super) task: Task,
    pub(super) start_by: Timestamp,
    pub(super) input_bytes: u64,
    pub(super) result_bytes: u64,
    pub(super) retry_of: Option<JobId>,
    pub(super) retried_as: Option<JobId>,
    /// An operator took it off the list of dead letters.
    pub(super) discarded: bool,
    labels: Option<String>,
    trace: Option<String>,
}

/// The columns of a job's row. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub(super) struct JobColumns {
    pub(super) id: [u8; 16],
    pub(super) lane: LaneId,
    pub(super) task: u8,
    pub(super) state: u8,
    pub(super) dispatch_seq: u32,
    /// 0 before the first.
    pub(super) last_attempt: u32,
    pub(super) spent: Budgets,
    pub(super) accepted_at: i64,
    pub(super) started_at: Option<i64>,
    pub(super) finished_at: Option<i64>,
    pub(super) deadline_at: i64,
    pub(super) start_by: i64,
    pub(super) items_total: u32,
    pub(super) items_done: u32,
    pub(super) run_alone: bool,
    pub(super) failure_reason: Option<u8>,
    pub(super) failure_code: Option<String>,
    pub(super) failure_message: Option<String>,
    /// When a dispatched job was dispatched; when a retry is due.
    pub(super) state_at: Option<i64>,
    pub(super) lease_token: Option<[u8; 16]>,
    pub(super) lease_worker: Option<[u8; 16]>,
    pub(super) lease_claim: Option<[u8; 16]>,
    pub(super) lease_expires_at: Option<i64>,
    pub(super) lease_must_end_by: Option<i64>,
    pub(super) cancel_requested_at: Option<i64>,
    pub(super) labels: Option<String>,
    pub(super) trace: Option<String>,
    pub(super) input_bytes: u64,
    pub(super) result_bytes: u64,
    pub(super) retry_of: Option<[u8; 16]>,
    pub(super) retried_as: Option<[u8; 16]>,
    pub(super) discarded: bool,
}

impl StoredJob {
    /// A job that is accepted.
    pub(super) fn accepted(
        new: &NewJob,
        lane: LaneId,
        retry_of: Option<JobId>,
    ) -> Result<Self, StoreError> {
        let labels = (!new.labels.is_empty())
            .then(|| serde_json::to_string(&new.labels))
            .transpose()
            .map_err(|error| StoreError::Corrupt(format!("labels of a new job: {error}")))?;
        Ok(Self {
            job: Job::accepted(new.id, new.items, new.accepted_at, new.deadline_at),
            lane,
            task: new.task,
            start_by: new.start_by,
            input_bytes: new.input.len() as u64,
            result_bytes: 0,
            retry_of,
            retried_as: None,
            discarded: false,
            labels,
            trace: trace_to_text(&new.trace),
        })
    }

    /// # Errors
    /// [`StoreError::Corrupt`] when the columns contradict each other or this version.
    pub(super) fn from_columns(columns: JobColumns) -> Result<Self, StoreError> {
        let id = JobId::from_bytes(columns.id);
        let (job, task) = job(&columns)
            .zip(Task::from_number(columns.task))
            .ok_or_else(|| StoreError::Corrupt(format!("the row of job {id} makes no sense")))?;
        Ok(Self {
            job,
            lane: columns.lane,
            task,
            start_by: Timestamp::from_unix_millis(columns.start_by),
            input_bytes: columns.input_bytes,
            result_bytes: columns.result_bytes,
            retry_of: columns.retry_of.map(JobId::from_bytes),
            retried_as: columns.retried_as.map(JobId::from_bytes),
            discarded: columns.discarded,
            labels: columns.labels,
            trace: columns.trace,
        })
    }

    pub(super) fn to_columns(&self) -> JobColumns {
        let job = &self.job;
        let lease = job.lease();
        let failure = job.failure.as_ref();
        let millis = Timestamp::as_unix_millis;
        JobColumns {
            id: *job.id.as_bytes(),
            lane: self.lane,
            task: self.task.number(),
            state: job.state.kind().number(),
            dispatch_seq: job.dispatch_seq.number(),
            last_attempt: job.last_attempt.map_or(0, Attempt::number),
            spent: job.spent,
            accepted_at: millis(job.accepted_at),
            started_at: job.started_at.map(millis),
            finished_at: job.finished_at.map(millis),
            deadline_at: millis(job.deadline_at),
            start_by: millis(self.start_by),
            items_total: job.items_total,
            items_done: job.items_done,
            run_alone: job.run_alone,
            failure_reason: failure.map(|failure| failure.reason.number()),
            failure_code: failure.map(|failure| failure.code.clone()),
            failure_message: failure.map(|failure| failure.message.clone()),
            state_at: state_at(&job.state).map(millis),
            lease_token: lease.map(|lease| *lease.token.as_bytes()),
            lease_worker: lease.map(|lease| *lease.worker.as_bytes()),
            lease_claim: lease.map(|lease| *lease.claim.as_bytes()),
            lease_expires_at: lease.map(|lease| millis(lease.expires_at)),
            lease_must_end_by: lease.map(|lease| millis(lease.must_end_by)),
            cancel_requested_at: lease.and_then(|lease| lease.cancel_requested_at).map(millis),
            labels: self.labels.clone(),
            trace: self.trace.clone(),
            input_bytes: self.input_bytes,
            result_bytes: self.result_bytes,
            retry_of: self.retry_of.map(|id| *id.as_bytes()),
            retried_as: self.retried_as.map(|id| *id.as_bytes()),
            discarded: self.discarded,
        }
    }

    /// The job's next timer.
    pub(super) fn due_at(&self, policy: &LeasePolicy) -> Option<i64> {
        next_due(&self.job, policy).map(Timestamp::as_unix_millis)
    }

    pub(super) fn names(&self, lanes: &SharedLanes) -> Result<Arc<LaneNames>, StoreError> {
        lanes
            .names(self.lane)
            .ok_or_else(|| StoreError::Corrupt(format!("job {} has no lane", self.job.id)))
    }

    pub(super) fn record(&self, lanes: &SharedLanes) -> Result<JobRecord, StoreError> {
        let names = self.names(lanes)?;
        Ok(JobRecord {
            job: self.job.clone(),
            tenant: names.tenant.clone(),
            class: names.class.clone(),
            pool: names.lane.pool.clone(),
            model: names.lane.model.clone(),
            task: self.task,
            labels: self.labels()?,
            input_bytes: self.input_bytes,
            result_bytes: self.result_bytes,
            retry_of: self.retry_of,
            retried_as: self.retried_as,
        })
    }

    pub(super) fn labels(&self) -> Result<Labels, StoreError> {
        match &self.labels {
            None => Ok(Labels::new()),
            Some(text) => serde_json::from_str(text)
                .map_err(|error| StoreError::Corrupt(format!("labels of a job: {error}"))),
        }
    }

    pub(super) fn trace(&self) -> TraceContext {
        let lines = self.trace.as_deref().into_iter().flat_map(str::lines);
        TraceContext::from_pairs(lines.filter_map(|line| line.split_once(": ")))
    }
}

/// Trace contexts are stored as `name: value` lines.
fn trace_to_text(trace: &TraceContext) -> Option<String> {
    let lines: Vec<String> =
        trace.to_pairs().into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn job(columns: &JobColumns) -> Option<Job> {
    let time = Timestamp::from_unix_millis;
    let last_attempt = Attempt::new(columns.last_attempt);
    let failure = match columns.failure_reason {
        None => None,
        Some(number) => Some(Failure {
            reason: FailureReason::from_number(number)?,
            code: columns.failure_code.clone()?,
            message: columns.failure_message.clone()?,
        }),
    };
    Some(Job {
        id: JobId::from_bytes(columns.id),
        state: state(columns, last_attempt)?,
        dispatch_seq: DispatchSeq::new(columns.dispatch_seq),
        last_attempt,
        spent: columns.spent,
        accepted_at: time(columns.accepted_at),
        started_at: columns.started_at.map(time),
        finished_at: columns.finished_at.map(time),
        deadline_at: time(columns.deadline_at),
        items_total: columns.items_total,
        items_done: columns.items_done,
        run_alone: columns.run_alone,
        failure,
    })
}

fn state(columns: &JobColumns, last_attempt: Option<Attempt>) -> Option<State> {
    let time = Timestamp::from_unix_millis;
    Some(match StateKind::from_number(columns.state)? {
        StateKind::Queued => State::Queued,
        StateKind::Dispatched => State::Dispatched { at: time(columns.state_at?) },
        StateKind::RetryWait => State::RetryWait { until: time(columns.state_at?) },
        StateKind::Leased => State::Leased(Lease {
            attempt: last_attempt?,
            token: LeaseToken::from_bytes(columns.lease_token?),
            worker: WorkerId::from_bytes(columns.lease_worker?),
            claim: ClaimId::from_bytes(columns.lease_claim?),
            expires_at: time(columns.lease_expires_at?),
            must_end_by: time(columns.lease_must_end_by?),
            cancel_requested_at: columns.cancel_requested_at.map(time),
        }),
        StateKind::Succeeded => State::Succeeded,
        StateKind::Failed => State::Failed,
        StateKind::Cancelled => State::Cancelled,
        StateKind::Expired => State::Expired,
    })
}

/// The time that belongs to a state of its own column.
fn state_at(state: &State) -> Option<Timestamp> {
    match state {
        State::Dispatched { at } => Some(*at),
        State::RetryWait { until } => Some(*until),
        State::Queued
        | State::Leased(_)
        | State::Succeeded
        | State::Failed
        | State::Cancelled
        | State::Expired => None,
    }
}
