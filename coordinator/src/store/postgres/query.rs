//! Reading jobs, results, attempts, and what waits.

use std::collections::BTreeMap;

use bytes::Bytes;
use deadpool_postgres::Object;
use stoker_core::ids::{Attempt, DispatchSeq, JobId, TenantName, WorkerId};
use stoker_core::job::{AttemptOutcome, AttemptRecord, JobRecord, StateKind};
use stoker_core::request::Idempotency;
use stoker_core::time::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::store::filter::{SCAN_LIMIT, id_bounds, matches};
use crate::store::job_row::StoredJob;
use crate::store::lanes::SharedLanes;
use crate::store::waiting::{Heads, by_tenant};
use crate::store::{
    Filter, Lane, LaneSet, OutboxEntry, Page, StoreError, StoredPart, TenantScope, WaitingTenant,
    verbs,
};

use super::error::database;
use super::lanes::refresh;
use super::rows::{COLUMNS, bigint, count, read, small, uuid};

/// Rows that are fetched at once for a page.
const CHUNK: i64 = 500;

/// Jobs of rows of [`COLUMNS`], whose lanes are known then.
async fn stored(
    db: &Object,
    lanes: &SharedLanes,
    rows: &[Row],
) -> Result<Vec<StoredJob>, StoreError> {
    let jobs: Vec<StoredJob> =
        rows.iter().map(|row| StoredJob::from_columns(read(row)?)).collect::<Result<_, _>>()?;
    if jobs.iter().any(|job| lanes.names(job.lane).is_none()) {
        refresh(db, lanes).await?;
    }
    Ok(jobs)
}

pub(super) async fn get_many(
    db: &Object,
    lanes: &SharedLanes,
    scope: &TenantScope,
    jobs: &[JobId],
) -> Result<Vec<JobRecord>, StoreError> {
    let failed = || database("reading jobs");
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ANY($1)");
    let statement = db.prepare_cached(&sql).await.map_err(failed())?;
    let ids: Vec<Uuid> = jobs.iter().map(|job| *job.as_uuid()).collect();
    let rows = db.query(&statement, &[&ids]).await.map_err(failed())?;
    let mut found = Vec::with_capacity(rows.len());
    for job in stored(db, lanes, &rows).await? {
        let record = job.record(lanes)?;
        if scope.contains(&record.tenant) {
            found.push(record);
        }
    }
    // In the order that was asked for.
    found.sort_by_key(|record| jobs.iter().position(|job| *job == record.job.id));
    Ok(found)
}

pub(super) async fn list(
    db: &Object,
    lanes: &SharedLanes,
    filter: &Filter,
) -> Result<Page, StoreError> {
    refresh(db, lanes).await?;
    let sql = list_sql(filter);
    let (from, mut below) = id_bounds(filter);
    let from = from.map(|job| *job.as_uuid());
    let mut page = Page { jobs: Vec::new(), next: None };
    let mut scanned = 0;
    loop {
        let before = below.map(|job| *job.as_uuid());
        let rows = db.query(&sql, &[&before, &from]).await.map_err(database("listing jobs"))?;
        for job in stored(db, lanes, &rows).await? {
            if page.jobs.len() >= filter.limit as usize || scanned >= SCAN_LIMIT {
                return Ok(page);
            }
            scanned += 1;
            page.next = Some(job.job.id);
            below = page.next;
            page.jobs.extend(matches(&job, lanes, filter)?);
        }
        if bigint(rows.len() as u64) < CHUNK {
            page.next = None;
            return Ok(page);
        }
    }
}

fn list_sql(filter: &Filter) -> String {
    let failed = if filter.only_dead_letters { " AND state = 6" } else { "" };
    format!(
        "SELECT {COLUMNS} FROM jobs WHERE ($1::uuid IS NULL OR id < $1)
         AND ($2::uuid IS NULL OR id >= $2){failed} ORDER BY id DESC LIMIT {CHUNK}"
    )
}

/// How many there are, up to `limit`.
pub(super) async fn dead_letters(db: &Object, limit: u32) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM (SELECT 1 FROM jobs
        WHERE state = 6 AND NOT discarded AND retried_as IS NULL LIMIT $1) AS dead";
    let row = db.query_one(sql, &[&i64::from(limit)]).await;
    let number: i64 = row.map_err(database("counting dead letters"))?.get(0);
    Ok(u64::try_from(number).unwrap_or(0))
}

/// The jobs of these keys; `None` unless each was used before by the same request.
pub(super) async fn repeated(
    db: &Object,
    tenant: &TenantName,
    keys: &[Idempotency],
) -> Result<Option<Vec<JobId>>, StoreError> {
    let failed = || database("reading idempotency keys");
    let sql = "SELECT key, digest, job FROM idempotency WHERE tenant = $1 AND key = ANY($2)";
    let statement = db.prepare_cached(sql).await.map_err(failed())?;
    let names: Vec<&str> = keys.iter().map(|key| key.key.as_str()).collect();
    let rows = db.query(&statement, &[&tenant.as_str(), &names]).await.map_err(failed())?;
    let job = |key: &Idempotency| {
        let same = |row: &&Row| {
            row.get::<_, &str>(0) == key.key && row.get::<_, &[u8]>(1) == key.request_digest
        };
        rows.iter().find(same).map(|row| JobId::from_bytes(uuid(row, 2)))
    };
    Ok(keys.iter().map(job).collect())
}

pub(super) async fn results(
    db: &Object,
    job: JobId,
    first_item: u32,
    max_bytes: usize,
) -> Result<Vec<StoredPart>, StoreError> {
    let failed = || database("reading results");
    // The sum of those before a part says whether it still fits; the first always does.
    let sql = "SELECT first_item, items, data FROM (
            SELECT first_item, items, data, sum(octet_length(data)) OVER (ORDER BY first_item)
                - octet_length(data) AS before
            FROM results WHERE job = $1 AND first_item + items > $2) AS parts
        WHERE before < $3::int8 ORDER BY first_item";
    let statement = db.prepare_cached(sql).await.map_err(failed())?;
    let limit = bigint(max_bytes as u64);
    let rows = db.query(&statement, &[job.as_uuid(), &i64::from(first_item), &limit]).await;
    let part = |row: &Row| {
        let data = Bytes::from(row.get::<_, Vec<u8>>(2));
        Ok(StoredPart { first_item: count(row, 0)?, items: count(row, 1)?, data })
    };
    rows.map_err(failed())?.iter().map(part).collect()
}

pub(super) async fn attempts(db: &Object, job: JobId) -> Result<Vec<AttemptRecord>, StoreError> {
    let failed = || database("reading attempts");
    let sql = "SELECT attempt, worker, started_at, ended_at, outcome, code, message FROM attempts
        WHERE job = $1 ORDER BY attempt";
    let statement = db.prepare_cached(sql).await.map_err(failed())?;
    let rows = db.query(&statement, &[job.as_uuid()]).await.map_err(failed())?;
    let record = |row: &Row| {
        let outcome = AttemptOutcome::from_number(small(row, 4)?)
            .ok_or_else(|| StoreError::Corrupt("an attempt's outcome".to_owned()))?;
        Ok(AttemptRecord {
            attempt: Attempt::new(count(row, 0)?).unwrap_or(Attempt::FIRST),
            worker: WorkerId::from_bytes(uuid(row, 1)),
            started_at: Timestamp::from_unix_millis(row.get(2)),
            ended_at: row.get::<_, Option<i64>>(3).map(Timestamp::from_unix_millis),
            outcome,
            code: row.get(5),
            message: row.get(6),
        })
    };
    rows.iter().map(record).collect()
}

pub(super) async fn waiting(
    db: &Object,
    lanes: &SharedLanes,
    lane: &Lane,
    heads: u32,
) -> Result<Vec<WaitingTenant>, StoreError> {
    let failed = || database("reading what waits");
    let sql = "SELECT id, start_by FROM jobs WHERE state = 1 AND lane = $1
        ORDER BY start_by, id LIMIT $2";
    let statement = db.prepare_cached(sql).await.map_err(failed())?;
    let mut found = Vec::new();
    for entry in lanes.matching(|names| names.lane == *lane) {
        let mut first = Heads::new();
        if entry.counts.get(StateKind::Queued) > 0 {
            let rows = db.query(&statement, &[&entry.id, &i64::from(heads)]).await;
            first.extend(rows.map_err(failed())?.iter().map(|row| {
                (JobId::from_bytes(uuid(row, 0)), Timestamp::from_unix_millis(row.get(1)))
            }));
        }
        found.push((entry, first));
    }
    Ok(by_tenant(found, heads))
}

pub(super) async fn outbox(
    db: &Object,
    lanes: &SharedLanes,
    limit: u32,
    of: &LaneSet,
) -> Result<Vec<OutboxEntry>, StoreError> {
    let failed = || database("reading the outbox");
    // A lane that is not known yet is put in by another coordinator, which has just released a job.
    refresh(db, lanes).await?;
    let wanted = lanes.condition(|names| of.contains(&names.lane));
    let sql = format!("SELECT {COLUMNS}, seq FROM outbox JOIN jobs ON job = id{wanted} LIMIT $1");
    let rows = db.query(&sql, &[&i64::from(limit)]).await.map_err(failed())?;
    let jobs = stored(db, lanes, &rows).await?;
    let entry = |(job, row): (&StoredJob, &Row)| {
        let seq = count(row, row.len() - 1)?;
        verbs::entry(lanes, job, DispatchSeq::new(seq))
    };
    jobs.iter().zip(&rows).map(entry).collect()
}

pub(super) async fn outbox_len(db: &Object) -> Result<u64, StoreError> {
    let row = db.query_one("SELECT count(*) FROM outbox", &[]).await;
    let number: i64 = row.map_err(database("counting the outbox"))?.get(0);
    Ok(u64::try_from(number).unwrap_or(0))
}

/// Acceptance of the job that waits longest for its first start. Within one lane, which has one class,
/// the queued job with least slack is the oldest; dispatched ones are few.
pub(super) async fn oldest_waiting(
    db: &Object,
    lanes: &SharedLanes,
    lane: &Lane,
) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT least(
        (SELECT accepted_at FROM jobs WHERE state = 1 AND lane = $1 AND started_at IS NULL
            ORDER BY start_by, id LIMIT 1),
        (SELECT min(accepted_at) FROM jobs WHERE state = 2 AND lane = $1 AND started_at IS NULL))";
    earliest(db, lanes, lane, sql).await
}

/// When the first job that is queued or dispatched has to start.
pub(super) async fn first_start(
    db: &Object,
    lanes: &SharedLanes,
    lane: &Lane,
) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT least(
        (SELECT start_by FROM jobs WHERE state = 1 AND lane = $1 ORDER BY start_by, id LIMIT 1),
        (SELECT min(start_by) FROM jobs WHERE state = 2 AND lane = $1))";
    earliest(db, lanes, lane, sql).await
}

/// The least of the times that the query gives for each part of a queue in which jobs wait.
async fn earliest(
    db: &Object,
    lanes: &SharedLanes,
    lane: &Lane,
    sql: &str,
) -> Result<Option<Timestamp>, StoreError> {
    let failed = || database("reading what waits longest");
    let statement = db.prepare_cached(sql).await.map_err(failed())?;
    let mut earliest: Option<Timestamp> = None;
    for entry in lanes.matching(|names| names.lane == *lane) {
        if entry.counts.get(StateKind::Queued) + entry.counts.get(StateKind::Dispatched) > 0 {
            let row = db.query_one(&statement, &[&entry.id]).await.map_err(failed())?;
            let of_lane = row.get::<_, Option<i64>>(0).map(Timestamp::from_unix_millis);
            earliest = earliest.into_iter().chain(of_lane).min();
        }
    }
    Ok(earliest)
}

/// Leases by worker.
pub(super) async fn leases(db: &Object) -> Result<BTreeMap<WorkerId, u64>, StoreError> {
    let failed = || database("counting leases");
    let sql = "SELECT lease_worker, count(*) FROM jobs
        WHERE state = 3 AND lease_worker IS NOT NULL GROUP BY lease_worker";
    let statement = db.prepare_cached(sql).await.map_err(failed())?;
    let rows = db.query(&statement, &[]).await.map_err(failed())?;
    let of = |row: &Row| {
        (WorkerId::from_bytes(uuid(row, 0)), u64::try_from(row.get::<_, i64>(1)).unwrap_or(0))
    };
    Ok(rows.iter().map(of).collect())
}

/// Puts the message of every dispatched job into the outbox again.
pub(super) async fn republish(db: &Object) -> Result<u64, StoreError> {
    let sql = "INSERT INTO outbox (job, seq)
        SELECT id, dispatch_seq FROM jobs WHERE state = 2 ORDER BY id
        ON CONFLICT (job) DO UPDATE SET seq = excluded.seq";
    db.execute(sql, &[]).await.map_err(database("writing the outbox"))
}

/// When the next timer is due.
pub(super) async fn next_due(db: &Object) -> Result<Option<Timestamp>, StoreError> {
    let failed = || database("reading when something is due");
    let sql = "SELECT min(due_at) FROM jobs WHERE due_at IS NOT NULL";
    let statement = db.prepare_cached(sql).await.map_err(failed())?;
    let row = db.query_one(&statement, &[]).await.map_err(failed())?;
    Ok(row.get::<_, Option<i64>>(0).map(Timestamp::from_unix_millis))
}
