//! A job's row, read from and written to Postgres: rows are written many at a time, column by column.

use stoker_core::job::Budgets;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::store::StoreError;
use crate::store::job_row::JobColumns;

macro_rules! columns {
    () => {
        "id, lane, task, state, dispatch_seq, last_attempt, failures, crashes, lost_workers, \
         interruptions, accepted_at, started_at, finished_at, deadline_at, start_by, items_total, \
         items_done, run_alone, failure_reason, failure_code, failure_message, state_at, \
         lease_token, lease_worker, lease_claim, lease_expires_at, lease_must_end_by, \
         cancel_requested_at, labels, trace, input_bytes, result_bytes, retry_of, retried_as, \
         discarded"
    };
}

/// The columns that [`read`] reads, in its order.
pub(super) const COLUMNS: &str = columns!();

/// Reads a row of [`COLUMNS`].
pub(super) fn read(row: &Row) -> Result<JobColumns, StoreError> {
    Ok(JobColumns {
        id: uuid(row, 0),
        lane: row.get(1),
        task: small(row, 2)?,
        state: small(row, 3)?,
        dispatch_seq: count(row, 4)?,
        last_attempt: count(row, 5)?,
        spent: Budgets {
            failures: count(row, 6)?,
            crashes: count(row, 7)?,
            lost_workers: count(row, 8)?,
            interruptions: count(row, 9)?,
        },
        accepted_at: row.get(10),
        started_at: row.get(11),
        finished_at: row.get(12),
        deadline_at: row.get(13),
        start_by: row.get(14),
        items_total: count(row, 15)?,
        items_done: count(row, 16)?,
        run_alone: row.get(17),
        failure_reason: row.get::<_, Option<i16>>(18).map(|_| small(row, 18)).transpose()?,
        failure_code: row.get(19),
        failure_message: row.get(20),
        state_at: row.get(21),
        lease_token: optional_uuid(row, 22),
        lease_worker: optional_uuid(row, 23),
        lease_claim: optional_uuid(row, 24),
        lease_expires_at: row.get(25),
        lease_must_end_by: row.get(26),
        cancel_requested_at: row.get(27),
        labels: row.get(28),
        trace: row.get(29),
        input_bytes: size(row, 30)?,
        result_bytes: size(row, 31)?,
        retry_of: optional_uuid(row, 32),
        retried_as: optional_uuid(row, 33),
        discarded: row.get(34),
    })
}

/// Values of one statement.
pub(super) type Parameters = Vec<Box<dyn ToSql + Sync + Send>>;

macro_rules! parameters {
    ($($value:expr),* $(,)?) => {
        vec![$(Box::new($value) as Box<dyn tokio_postgres::types::ToSql + Sync + Send>),*]
    };
}
pub(super) use parameters;

/// Rows to insert or update, as one array for each column.
#[derive(Debug, Default)]
pub(super) struct JobArrays {
    id: Vec<Uuid>,
    lane: Vec<i64>,
    task: Vec<i16>,
    state: Vec<i16>,
    dispatch_seq: Vec<i64>,
    last_attempt: Vec<i64>,
    failures: Vec<i64>,
    crashes: Vec<i64>,
    lost_workers: Vec<i64>,
    interruptions: Vec<i64>,
    accepted_at: Vec<i64>,
    started_at: Vec<Option<i64>>,
    finished_at: Vec<Option<i64>>,
    deadline_at: Vec<i64>,
    start_by: Vec<i64>,
    items_total: Vec<i64>,
    items_done: Vec<i64>,
    run_alone: Vec<bool>,
    failure_reason: Vec<Option<i16>>,
    failure_code: Vec<Option<String>>,
    failure_message: Vec<Option<String>>,
    state_at: Vec<Option<i64>>,
    lease_token: Vec<Option<Uuid>>,
    lease_worker: Vec<Option<Uuid>>,
    lease_claim: Vec<Option<Uuid>>,
    lease_expires_at: Vec<Option<i64>>,
    lease_must_end_by: Vec<Option<i64>>,
    cancel_requested_at: Vec<Option<i64>>,
    labels: Vec<Option<String>>,
    trace: Vec<Option<String>>,
    input_bytes: Vec<i64>,
    result_bytes: Vec<i64>,
    retry_of: Vec<Option<Uuid>>,
    retried_as: Vec<Option<Uuid>>,
    discarded: Vec<bool>,
    due_at: Vec<Option<i64>>,
    idempotency_key: Vec<Option<String>>,
}

/// Of [`JobArrays::inserted`], in its order.
pub(super) const INSERT: &str = concat!(
    "INSERT INTO jobs (",
    columns!(),
    ", due_at, idempotency_key, has_results) \
     SELECT u.*, u.result_bytes > 0 FROM unnest($1::uuid[], $2::int8[], $3::int2[], $4::int2[], \
     $5::int8[], $6::int8[], $7::int8[], $8::int8[], $9::int8[], $10::int8[], $11::int8[], \
     $12::int8[], $13::int8[], $14::int8[], $15::int8[], $16::int8[], $17::int8[], $18::bool[], \
     $19::int2[], $20::text[], $21::text[], $22::int8[], $23::uuid[], $24::uuid[], $25::uuid[], \
     $26::int8[], $27::int8[], $28::int8[], $29::text[], $30::text[], $31::int8[], $32::int8[], \
     $33::uuid[], $34::uuid[], $35::bool[], $36::int8[], $37::text[]) AS u (",
    columns!(),
    ", due_at, idempotency_key)"
);

/// Of [`JobArrays::updated`], in its order: everything that can change.
pub(super) const UPDATE: &str = "UPDATE jobs SET state = u.state, dispatch_seq = u.dispatch_seq, \
    last_attempt = u.last_attempt, failures = u.failures, crashes = u.crashes, \
    lost_workers = u.lost_workers, interruptions = u.interruptions, started_at = u.started_at, \
    finished_at = u.finished_at, items_done = u.items_done, run_alone = u.run_alone, \
    failure_reason = u.failure_reason, failure_code = u.failure_code, \
    failure_message = u.failure_message, state_at = u.state_at, lease_token = u.lease_token, \
    lease_worker = u.lease_worker, lease_claim = u.lease_claim, \
    lease_expires_at = u.lease_expires_at, lease_must_end_by = u.lease_must_end_by, \
    cancel_requested_at = u.cancel_requested_at, due_at = u.due_at, \
    result_bytes = u.result_bytes, has_results = u.result_bytes > 0, retried_as = u.retried_as, \
    discarded = u.discarded \
    FROM unnest($1::uuid[], $2::int2[], $3::int8[], $4::int8[], $5::int8[], $6::int8[], \
    $7::int8[], $8::int8[], $9::int8[], $10::int8[], $11::int8[], $12::bool[], $13::int2[], \
    $14::text[], $15::text[], $16::int8[], $17::uuid[], $18::uuid[], $19::uuid[], $20::int8[], \
    $21::int8[], $22::int8[], $23::int8[], $24::int8[], $25::uuid[], $26::bool[]) \
    AS u (id, state, dispatch_seq, last_attempt, failures, crashes, lost_workers, interruptions, \
    started_at, finished_at, items_done, run_alone, failure_reason, failure_code, \
    failure_message, state_at, lease_token, lease_worker, lease_claim, lease_expires_at, \
    lease_must_end_by, cancel_requested_at, due_at, result_bytes, retried_as, discarded) \
    WHERE jobs.id = u.id";

impl JobArrays {
    pub(super) fn push(&mut self, row: JobColumns, due_at: Option<i64>, key: Option<String>) {
        self.id.push(Uuid::from_bytes(row.id));
        self.lane.push(row.lane);
        self.task.push(row.task.into());
        self.state.push(row.state.into());
        self.dispatch_seq.push(row.dispatch_seq.into());
        self.last_attempt.push(row.last_attempt.into());
        self.failures.push(row.spent.failures.into());
        self.crashes.push(row.spent.crashes.into());
        self.lost_workers.push(row.spent.lost_workers.into());
        self.interruptions.push(row.spent.interruptions.into());
        self.accepted_at.push(row.accepted_at);
        self.started_at.push(row.started_at);
        self.finished_at.push(row.finished_at);
        self.deadline_at.push(row.deadline_at);
        self.start_by.push(row.start_by);
        self.items_total.push(row.items_total.into());
        self.items_done.push(row.items_done.into());
        self.run_alone.push(row.run_alone);
        self.failure_reason.push(row.failure_reason.map(i16::from));
        self.failure_code.push(row.failure_code);
        self.failure_message.push(row.failure_message);
        self.state_at.push(row.state_at);
        self.lease_token.push(row.lease_token.map(Uuid::from_bytes));
        self.lease_worker.push(row.lease_worker.map(Uuid::from_bytes));
        self.lease_claim.push(row.lease_claim.map(Uuid::from_bytes));
        self.lease_expires_at.push(row.lease_expires_at);
        self.lease_must_end_by.push(row.lease_must_end_by);
        self.cancel_requested_at.push(row.cancel_requested_at);
        self.labels.push(row.labels);
        self.trace.push(row.trace);
        self.input_bytes.push(bigint(row.input_bytes));
        self.result_bytes.push(bigint(row.result_bytes));
        self.retry_of.push(row.retry_of.map(Uuid::from_bytes));
        self.retried_as.push(row.retried_as.map(Uuid::from_bytes));
        self.discarded.push(row.discarded);
        self.due_at.push(due_at);
        self.idempotency_key.push(key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    /// Parameters of [`INSERT`].
    pub(super) fn inserted(self) -> Parameters {
        parameters![
            self.id,
            self.lane,
            self.task,
            self.state,
            self.dispatch_seq,
            self.last_attempt,
            self.failures,
            self.crashes,
            self.lost_workers,
            self.interruptions,
            self.accepted_at,
            self.started_at,
            self.finished_at,
            self.deadline_at,
            self.start_by,
            self.items_total,
            self.items_done,
            self.run_alone,
            self.failure_reason,
            self.failure_code,
            self.failure_message,
            self.state_at,
            self.lease_token,
            self.lease_worker,
            self.lease_claim,
            self.lease_expires_at,
            self.lease_must_end_by,
            self.cancel_requested_at,
            self.labels,
            self.trace,
            self.input_bytes,
            self.result_bytes,
            self.retry_of,
            self.retried_as,
            self.discarded,
            self.due_at,
            self.idempotency_key,
        ]
    }

    /// Parameters of [`UPDATE`].
    pub(super) fn updated(self) -> Parameters {
        parameters![
            self.id,
            self.state,
            self.dispatch_seq,
            self.last_attempt,
            self.failures,
            self.crashes,
            self.lost_workers,
            self.interruptions,
            self.started_at,
            self.finished_at,
            self.items_done,
            self.run_alone,
            self.failure_reason,
            self.failure_code,
            self.failure_message,
            self.state_at,
            self.lease_token,
            self.lease_worker,
            self.lease_claim,
            self.lease_expires_at,
            self.lease_must_end_by,
            self.cancel_requested_at,
            self.due_at,
            self.result_bytes,
            self.retried_as,
            self.discarded,
        ]
    }
}

/// A size or limit as a column holds it.
pub(super) fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn uuid(row: &Row, column: usize) -> [u8; 16] {
    row.get::<_, Uuid>(column).into_bytes()
}

fn optional_uuid(row: &Row, column: usize) -> Option<[u8; 16]> {
    row.get::<_, Option<Uuid>>(column).map(Uuid::into_bytes)
}

/// A number of a column that is wider than what it holds.
pub(super) fn count(row: &Row, column: usize) -> Result<u32, StoreError> {
    u32::try_from(row.get::<_, i64>(column)).map_err(|_| out_of_range(row, column))
}

pub(super) fn small(row: &Row, column: usize) -> Result<u8, StoreError> {
    u8::try_from(row.get::<_, i16>(column)).map_err(|_| out_of_range(row, column))
}

fn size(row: &Row, column: usize) -> Result<u64, StoreError> {
    u64::try_from(row.get::<_, i64>(column)).map_err(|_| out_of_range(row, column))
}

fn out_of_range(row: &Row, column: usize) -> StoreError {
    let name = row.columns().get(column).map_or("?", tokio_postgres::Column::name);
    StoreError::Corrupt(format!("the column {name} is out of range"))
}
