//! A job's row, read from and written to `SQLite`.

use rusqlite::types::Type;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, params};
use stoker_core::ids::{JobId, ParseIdError, TenantName};
use stoker_core::job::Budgets;
use stoker_core::policy::LeasePolicy;
use stoker_core::request::Idempotency;
use stoker_core::time::Timestamp;

use crate::store::StoreError;
use crate::store::job_row::{JobColumns, StoredJob};
use crate::store::tables::KeyOwner;

/// The columns that [`read`] reads, in its order.
pub(super) const COLUMNS: &str = "id, lane, state, dispatch_seq, last_attempt, failures, crashes, \
    lost_workers, interruptions, accepted_at, started_at, finished_at, deadline_at, items_total, \
    items_done, run_alone, failure_reason, failure_code, failure_message, state_at, lease_token, \
    lease_worker, lease_claim, lease_expires_at, lease_must_end_by, cancel_requested_at, labels, \
    trace, input_bytes, result_bytes, retry_of, retried_as, start_by, discarded, task";

pub(super) fn load(db: &Connection, job: JobId) -> Result<Option<StoredJob>, StoreError> {
    db.prepare_cached(select_by_id())
        .and_then(|mut statement| statement.query_row([job.as_bytes()], read).optional())
        .map_err(StoreError::database("reading a job"))?
        .map(StoredJob::from_columns)
        .transpose()
}

/// Reads a row of [`COLUMNS`].
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<JobColumns> {
    Ok(JobColumns {
        id: row.get(0)?,
        lane: row.get(1)?,
        state: row.get(2)?,
        dispatch_seq: row.get(3)?,
        last_attempt: row.get(4)?,
        spent: Budgets {
            failures: row.get(5)?,
            crashes: row.get(6)?,
            lost_workers: row.get(7)?,
            interruptions: row.get(8)?,
        },
        accepted_at: row.get(9)?,
        started_at: row.get(10)?,
        finished_at: row.get(11)?,
        deadline_at: row.get(12)?,
        items_total: row.get(13)?,
        items_done: row.get(14)?,
        run_alone: row.get(15)?,
        failure_reason: row.get(16)?,
        failure_code: row.get(17)?,
        failure_message: row.get(18)?,
        state_at: row.get(19)?,
        lease_token: row.get(20)?,
        lease_worker: row.get(21)?,
        lease_claim: row.get(22)?,
        lease_expires_at: row.get(23)?,
        lease_must_end_by: row.get(24)?,
        cancel_requested_at: row.get(25)?,
        labels: row.get(26)?,
        trace: row.get(27)?,
        input_bytes: row.get(28)?,
        result_bytes: row.get(29)?,
        retry_of: row.get(30)?,
        retried_as: row.get(31)?,
        start_by: row.get(32)?,
        discarded: row.get(33)?,
        task: row.get(34)?,
    })
}

/// Writes everything that can change.
pub(super) fn save(
    db: &Connection,
    stored: &StoredJob,
    policy: &LeasePolicy,
) -> Result<(), StoreError> {
    let columns = stored.to_columns();
    let saved = db
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
        .and_then(|statement| update(statement, &columns, stored.due_at(policy)))
        .map_err(StoreError::database("writing a job"))?;
    if saved == 1 {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!("job {} vanished while it was changed", stored.job.id)))
}

fn update(
    mut statement: CachedStatement<'_>,
    columns: &JobColumns,
    due_at: Option<i64>,
) -> rusqlite::Result<usize> {
    statement.execute(params![
        columns.id,
        columns.state,
        columns.dispatch_seq,
        columns.last_attempt,
        columns.spent.failures,
        columns.spent.crashes,
        columns.spent.lost_workers,
        columns.spent.interruptions,
        columns.started_at,
        columns.finished_at,
        columns.items_done,
        columns.run_alone,
        columns.failure_reason,
        columns.failure_code,
        columns.failure_message,
        columns.state_at,
        columns.lease_token,
        columns.lease_worker,
        columns.lease_claim,
        columns.lease_expires_at,
        columns.lease_must_end_by,
        columns.cancel_requested_at,
        due_at,
        columns.result_bytes,
        columns.result_bytes > 0,
        columns.retried_as,
        columns.discarded,
    ])
}

/// Stores a job that is accepted now.
pub(super) fn insert(
    db: &Connection,
    stored: &StoredJob,
    due_at: Option<i64>,
    (key, input): (Option<&Idempotency>, &[u8]),
) -> rusqlite::Result<()> {
    let columns = stored.to_columns();
    db.prepare_cached(
        "INSERT INTO jobs (id, lane, task, state, dispatch_seq, last_attempt, failures, crashes,
             lost_workers, interruptions, accepted_at, deadline_at, start_by, items_total,
             items_done, run_alone, due_at, labels, trace, idempotency_key, input_bytes,
             result_bytes, has_results, retry_of, discarded)
         VALUES (?1, ?2, ?3, ?4, 0, 0, 0, 0, 0, 0, ?5, ?6, ?7, ?8, 0, 0, ?9, ?10, ?11, ?12, ?13,
             0, 0, ?14, 0)",
    )?
    .execute(params![
        columns.id,
        columns.lane,
        columns.task,
        columns.state,
        columns.accepted_at,
        columns.deadline_at,
        columns.start_by,
        columns.items_total,
        due_at,
        columns.labels,
        columns.trace,
        key.map(|key| &key.key),
        columns.input_bytes,
        columns.retry_of,
    ])?;
    db.prepare_cached("INSERT INTO inputs (job, input) VALUES (?, ?)")?
        .execute(params![columns.id, input])?;
    Ok(())
}

/// The job that an idempotency key was used for.
pub(super) fn key_owner(
    db: &Connection,
    tenant: &TenantName,
    key: &str,
) -> Result<Option<KeyOwner>, StoreError> {
    db.prepare_cached("SELECT digest, job FROM idempotency WHERE tenant = ? AND key = ?")
        .and_then(|mut statement| {
            let owner = |row: &Row<'_>| {
                Ok(KeyOwner { job: JobId::from_bytes(row.get(1)?), digest: row.get(0)? })
            };
            statement.query_row(params![tenant.as_str(), key], owner).optional()
        })
        .map_err(StoreError::database("reading an idempotency key"))
}

fn select_by_id() -> &'static str {
    static SQL: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| format!("SELECT {COLUMNS} FROM jobs WHERE id = ?"));
    &SQL
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
    variant(row.get(column)?).ok_or_else(|| {
        let unknown = "an unknown number".into();
        rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, unknown)
    })
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
