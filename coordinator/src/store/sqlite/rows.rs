//! A job's row as a value, and back.

use std::sync::Arc;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use stoker_core::ids::{Attempt, ClaimId, DispatchSeq, JobId, LeaseToken, ParseIdError, WorkerId};
use stoker_core::job::{
    AttemptEnd, Budgets, Event, Failure, FailureReason, Job, JobRecord, Lease, Refusal, State,
    StateKind, apply, attempt_ends, next_due,
};
use stoker_core::request::{Labels, Task};
use stoker_core::time::Timestamp;
use stoker_runtime::trace_context::TraceContext;

use crate::store::{Change, StoreError};

use super::lanes::{Delta, LaneId, LaneNames, SharedLanes};
use super::writer::Write;

/// The columns that [`StoredJob::read`] reads, in its order.
pub(super) const COLUMNS: &str = "id, lane, state, dispatch_seq, last_attempt, failures, crashes, \
    lost_workers, interruptions, accepted_at, started_at, finished_at, deadline_at, items_total, \
    items_done, run_alone, failure_reason, failure_code, failure_message, state_at, lease_token, \
    lease_worker, lease_claim, lease_expires_at, lease_must_end_by, cancel_requested_at, labels, \
    trace, input_bytes, result_bytes, retry_of, retried_as, start_by, discarded, task";

/// A job as it is stored, without input and results.
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
    pub(super) discarded: bool,
    labels: Option<String>,
    trace: Option<String>,
}

impl StoredJob {
    pub(super) fn load(db: &Connection, job: JobId) -> Result<Option<Self>, StoreError> {
        let sql = select_by_id();
        db.prepare_cached(sql)
            .and_then(|mut statement| statement.query_row([job.as_bytes()], Self::read).optional())
            .map_err(StoreError::database("reading a job"))
    }

    /// Reads a row of [`COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let kind = number(row, 2, StateKind::from_number)?;
        let last_attempt = Attempt::new(row.get(4)?);
        let state_at: Option<i64> = row.get(19)?;
        let job = Job {
            id: JobId::from_bytes(row.get(0)?),
            state: state(row, kind, last_attempt, state_at)?,
            dispatch_seq: DispatchSeq::new(row.get(3)?),
            last_attempt,
            spent: Budgets {
                failures: row.get(5)?,
                crashes: row.get(6)?,
                lost_workers: row.get(7)?,
                interruptions: row.get(8)?,
            },
            accepted_at: time(row, 9)?,
            started_at: optional_time(row, 10)?,
            finished_at: optional_time(row, 11)?,
            deadline_at: time(row, 12)?,
            items_total: row.get(13)?,
            items_done: row.get(14)?,
            run_alone: row.get(15)?,
            failure: failure(row)?,
        };
        Ok(Self {
            job,
            lane: row.get(1)?,
            labels: row.get(26)?,
            trace: row.get(27)?,
            input_bytes: row.get(28)?,
            result_bytes: row.get(29)?,
            retry_of: row.get::<_, Option<[u8; 16]>>(30)?.map(JobId::from_bytes),
            retried_as: row.get::<_, Option<[u8; 16]>>(31)?.map(JobId::from_bytes),
            start_by: time(row, 32)?,
            discarded: row.get(33)?,
            task: number(row, 34, Task::from_number)?,
        })
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
        trace_from_text(self.trace.as_deref())
    }

    /// Applies an event, writes the outcome and notes the change; a refusal changes nothing.
    pub(super) fn transit(
        &mut self,
        write: &mut Write<'_>,
        event: &Event,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let transition = match apply(&self.job, event, write.now, write.policy) {
            Ok(transition) => transition,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let before = std::mem::replace(&mut self.job, transition.job);
        self.save(write)?;
        for end in attempt_ends(&before, &self.job, event) {
            record_attempt_end(write, self.job.id, &end)?;
        }
        let waited = match (before.started_at, self.job.started_at) {
            (None, Some(started)) => Some(started.since(self.job.accepted_at)),
            _ => None,
        };
        let (from, to) = (before.state.kind(), self.job.state.kind());
        let names = self.names(write.lanes)?;
        let change = Change {
            job: self.job.id,
            class: names.class.clone(),
            lane: names.lane.clone(),
            from: Some(from),
            to,
            effects: transition.effects,
            waited,
        };
        write.changed(change, Delta { lane: self.lane, from: Some(from), to: Some(to) });
        Ok(Ok(()))
    }

    /// As [`StoredJob::transit`], for an event that nobody needs to be told of.
    pub(super) fn extend(
        &mut self,
        write: &Write<'_>,
        event: &Event,
    ) -> Result<Result<(), Refusal>, StoreError> {
        match apply(&self.job, event, write.now, write.policy) {
            Ok(transition) => {
                self.job = transition.job;
                self.save(write).map(Ok)
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Writes everything that can change.
    pub(super) fn save(&self, write: &Write<'_>) -> Result<(), StoreError> {
        let job = &self.job;
        let lease = job.lease();
        let millis = |time: Timestamp| time.as_unix_millis();
        let failure = job.failure.as_ref();
        let saved = write
            .db
            .prepare_cached(
                "UPDATE jobs SET state = ?2, dispatch_seq = ?3, last_attempt = ?4, failures = ?5,
                 crashes = ?6, lost_workers = ?7, interruptions = ?8, started_at = ?9,
                 finished_at = ?10, items_done = ?11, run_alone = ?12, failure_reason = ?13,
                 failure_code = ?14, failure_message = ?15, state_at = ?16, lease_token = ?17,
                 lease_worker = ?18, lease_claim = ?19, lease_expires_at = ?20,
                 lease_must_end_by = ?21, cancel_requested_at = ?22, due_at = ?23,
                 result_bytes = ?24, has_results = ?25, retried_as = ?26, discarded = ?27
                 WHERE id = ?1",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    job.id.as_bytes(),
                    job.state.kind().number(),
                    job.dispatch_seq.number(),
                    job.last_attempt.map_or(0, Attempt::number),
                    job.spent.failures,
                    job.spent.crashes,
                    job.spent.lost_workers,
                    job.spent.interruptions,
                    job.started_at.map(millis),
                    job.finished_at.map(millis),
                    job.items_done,
                    job.run_alone,
                    failure.map(|failure| failure.reason.number()),
                    failure.map(|failure| &failure.code),
                    failure.map(|failure| &failure.message),
                    state_at(&job.state).map(millis),
                    lease.map(|lease| *lease.token.as_bytes()),
                    lease.map(|lease| *lease.worker.as_bytes()),
                    lease.map(|lease| *lease.claim.as_bytes()),
                    lease.map(|lease| millis(lease.expires_at)),
                    lease.map(|lease| millis(lease.must_end_by)),
                    lease.and_then(|lease| lease.cancel_requested_at).map(millis),
                    next_due(job, &write.policy.lease).map(millis),
                    self.result_bytes,
                    self.result_bytes > 0,
                    self.retried_as.map(|id| *id.as_bytes()),
                    self.discarded,
                ])
            })
            .map_err(StoreError::database("writing a job"))?;
        if saved == 1 {
            return Ok(());
        }
        Err(StoreError::Corrupt(format!("job {} vanished while it was changed", job.id)))
    }
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

fn select_by_id() -> &'static str {
    static SQL: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| format!("SELECT {COLUMNS} FROM jobs WHERE id = ?"));
    &SQL
}

/// Writes how an attempt ended.
fn record_attempt_end(write: &Write<'_>, job: JobId, end: &AttemptEnd) -> Result<(), StoreError> {
    write
        .db
        .prepare_cached(
            "UPDATE attempts SET ended_at = ?3, outcome = ?4, code = ?5, message = ?6
             WHERE job = ?1 AND attempt = ?2",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                job.as_bytes(),
                end.attempt.number(),
                write.now.as_unix_millis(),
                end.outcome.number(),
                end.code,
                end.message
            ])
        })
        .map(drop)
        .map_err(StoreError::database("writing an attempt"))
}

fn state(
    row: &Row<'_>,
    kind: StateKind,
    last_attempt: Option<Attempt>,
    state_at: Option<i64>,
) -> rusqlite::Result<State> {
    let at =
        || state_at.map(Timestamp::from_unix_millis).ok_or_else(|| bad(19, "a time is missing"));
    Ok(match kind {
        StateKind::Queued => State::Queued,
        StateKind::Dispatched => State::Dispatched { at: at()? },
        StateKind::RetryWait => State::RetryWait { until: at()? },
        StateKind::Leased => State::Leased(Lease {
            attempt: last_attempt.ok_or_else(|| bad(4, "a lease without an attempt"))?,
            token: LeaseToken::from_bytes(row.get(20)?),
            worker: WorkerId::from_bytes(row.get(21)?),
            claim: ClaimId::from_bytes(row.get(22)?),
            expires_at: time(row, 23)?,
            must_end_by: time(row, 24)?,
            cancel_requested_at: optional_time(row, 25)?,
        }),
        StateKind::Succeeded => State::Succeeded,
        StateKind::Failed => State::Failed,
        StateKind::Cancelled => State::Cancelled,
        StateKind::Expired => State::Expired,
    })
}

fn failure(row: &Row<'_>) -> rusqlite::Result<Option<Failure>> {
    let Some(reason) = row.get::<_, Option<u8>>(16)? else { return Ok(None) };
    let reason =
        FailureReason::from_number(reason).ok_or_else(|| bad(16, "an unknown failure reason"))?;
    Ok(Some(Failure { reason, code: row.get(17)?, message: row.get(18)? }))
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_unix_millis)
}

pub(super) fn optional_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_unix_millis))
}

/// A stored number that stands for a variant.
pub(super) fn number<T>(
    row: &Row<'_>,
    column: usize,
    variant: fn(u8) -> Option<T>,
) -> rusqlite::Result<T> {
    variant(row.get(column)?).ok_or_else(|| bad(column, "an unknown number"))
}

/// A stored name of one of the domain's types.
pub(super) fn name<T: TryFrom<String, Error = ParseIdError>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    T::try_from(row.get(column)?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

fn bad(column: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, what.into())
}

/// Trace contexts are stored as `name: value` lines.
pub(super) fn trace_to_text(trace: &TraceContext) -> Option<String> {
    let lines: Vec<String> =
        trace.to_pairs().into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn trace_from_text(text: Option<&str>) -> TraceContext {
    let pairs = text.into_iter().flat_map(str::lines).filter_map(|line| line.split_once(": "));
    TraceContext::from_pairs(pairs)
}
