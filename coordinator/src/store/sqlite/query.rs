//! Reading jobs, results and attempts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use rusqlite::{Connection, params};
use stoker_core::ids::{Attempt, JobId, TenantName, WorkerId};
use stoker_core::job::{AttemptOutcome, AttemptRecord, JobRecord};

use stoker_core::request::Idempotency;
use stoker_core::time::Timestamp;

use crate::store::demand;
use crate::store::filter::{SCAN_LIMIT, id_bounds, matches};
use crate::store::job_row::StoredJob;
use crate::store::lanes::SharedLanes;
use crate::store::usage;
use crate::store::{Demand, Filter, Page, StoreError, StoredPart, TenantScope, Usage};

use super::rows::{self, COLUMNS, number, optional_time, time};

pub(super) fn get_many(
    db: &Connection,
    lanes: &SharedLanes,
    scope: &TenantScope,
    jobs: &[JobId],
) -> Result<Vec<JobRecord>, StoreError> {
    let mut found = Vec::with_capacity(jobs.len());
    for job in jobs {
        let Some(stored) = rows::load(db, *job)? else { continue };
        let record = stored.record(lanes)?;
        if scope.contains(&record.tenant) {
            found.push(record);
        }
    }
    Ok(found)
}

pub(super) fn list(
    db: &Connection,
    lanes: &SharedLanes,
    filter: &Filter,
) -> Result<Page, StoreError> {
    let mut statement = db.prepare(&sql(filter)).map_err(StoreError::database("listing jobs"))?;
    let mut rows = statement.query([]).map_err(StoreError::database("listing jobs"))?;
    let mut page = Page { jobs: Vec::new(), next: None };
    let mut scanned = 0;
    while let Some(row) = rows.next().map_err(StoreError::database("listing jobs"))? {
        if page.jobs.len() >= filter.limit as usize || scanned >= SCAN_LIMIT {
            return Ok(page);
        }
        let row = rows::read(row).map_err(StoreError::database("reading a listed job"))?;
        let stored = StoredJob::from_columns(row)?;
        scanned += 1;
        page.next = Some(stored.job.id);
        if let Some(record) = matches(&stored, lanes, filter)? {
            page.jobs.push(record);
        }
    }
    page.next = None;
    Ok(page)
}

/// Rows in the order of the list, found by ranges of ids alone: any other condition could make one
/// page read the whole table. Only hexadecimal ids enter the text.
fn sql(filter: &Filter) -> String {
    let mut sql = format!("SELECT {COLUMNS} FROM jobs WHERE 1");
    if filter.only_dead_letters {
        sql = format!("SELECT {COLUMNS} FROM jobs INDEXED BY jobs_failed WHERE state = 6");
    }
    let (from, below) = id_bounds(filter);
    for (comparison, id) in [(">=", from), ("<", below)] {
        if let Some(id) = id {
            let _ = write!(sql, " AND id {comparison} x'{}'", id.as_uuid().simple());
        }
    }
    sql.push_str(" ORDER BY id DESC");
    sql
}

/// Leases by worker.
pub(super) fn leases(db: &Connection) -> Result<BTreeMap<WorkerId, u64>, StoreError> {
    let read = || -> rusqlite::Result<BTreeMap<WorkerId, u64>> {
        let mut statement = db.prepare_cached(
            "SELECT lease_worker, count(*) FROM jobs INDEXED BY jobs_leased
             WHERE state = 3 GROUP BY lease_worker",
        )?;
        let rows = statement.query_map([], |row| {
            Ok((WorkerId::from_bytes(row.get::<_, [u8; 16]>(0)?), row.get::<_, u64>(1)?))
        })?;
        rows.collect()
    };
    read().map_err(StoreError::database("counting leases"))
}

/// What waits, and what happened since then.
pub(super) fn demand(
    db: &Connection,
    lanes: &SharedLanes,
    since: Option<Timestamp>,
) -> Result<Vec<Demand>, StoreError> {
    let read = || {
        let mut tally = demand::Tally::new(lanes);
        for lane in tally.waiting_lanes() {
            for sql in [demand::QUEUED, demand::DISPATCHED] {
                let mut statement = db.prepare_cached(sql)?;
                let mut rows = statement.query([lane])?;
                while let Some(row) = rows.next()? {
                    tally.waiting(lane, row.get(0)?, row.get(1)?);
                }
            }
        }
        let Some(since) = since else { return Ok(tally.finish()) };
        for (event, sql) in demand::EVENTS {
            let mut statement = db.prepare_cached(sql)?;
            let from = demand::first_id(since);
            let mut rows = statement.query(params![from.as_bytes(), since.as_unix_millis()])?;
            while let Some(row) = rows.next()? {
                let row = demand::EventRow {
                    lane: row.get(0)?,
                    slot: row.get(1)?,
                    jobs: row.get(2)?,
                    late: row.get(3)?,
                    seconds: row.get(4)?,
                    squares: row.get(5)?,
                };
                tally.event(event, &row);
            }
        }
        Ok(tally.finish())
    };
    read().map_err(StoreError::database("counting what waits and what happened"))
}

/// What attempts took of workers.
pub(super) fn usage(
    db: &Connection,
    lanes: &SharedLanes,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<Usage>, StoreError> {
    let read = || {
        let mut statement = db.prepare_cached(usage::USAGE)?;
        let first = usage::first_id(from);
        let bounds = params![until.as_unix_millis(), first.as_bytes(), from.as_unix_millis()];
        let rows = statement.query_map(bounds, |row| {
            Ok(usage::UsageRow {
                lane: row.get(0)?,
                day: row.get(1)?,
                attempts: row.get(2)?,
                taken: row.get(3)?,
                busy: row.get(4)?,
            })
        })?;
        rows.collect::<Result<Vec<_>, _>>()
    };
    let rows = read().map_err(StoreError::database("adding up what attempts took"))?;
    Ok(usage::together(lanes, &rows))
}

/// How many there are, up to `limit`.
pub(super) fn dead_letters(db: &Connection, limit: u32) -> Result<u64, StoreError> {
    db.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM jobs INDEXED BY jobs_failed
         WHERE state = 6 AND discarded = 0 AND retried_as IS NULL LIMIT ?)",
    )
    .and_then(|mut statement| statement.query_row([limit], |row| row.get(0)))
    .map_err(StoreError::database("counting dead letters"))
}

/// The jobs of these keys; `None` unless each was used before by the same request.
pub(super) fn repeated(
    db: &Connection,
    tenant: &TenantName,
    keys: &[Idempotency],
) -> Result<Option<Vec<JobId>>, StoreError> {
    let mut jobs = Vec::with_capacity(keys.len());
    for key in keys {
        match rows::key_owner(db, tenant, &key.key)? {
            Some(owner) if owner.digest == key.request_digest => jobs.push(owner.job),
            Some(_) | None => return Ok(None),
        }
    }
    Ok(Some(jobs))
}

pub(super) fn results(
    db: &Connection,
    job: JobId,
    first_item: u32,
    max_bytes: usize,
) -> Result<Vec<StoredPart>, StoreError> {
    let read = || {
        let mut statement = db.prepare_cached(
            "SELECT first_item, items, data FROM results
             WHERE job = ? AND first_item + items > ? ORDER BY first_item",
        )?;
        let mut rows = statement.query(params![job.as_bytes(), first_item])?;
        let mut parts = Vec::new();
        let mut bytes = 0;
        while bytes < max_bytes
            && let Some(row) = rows.next()?
        {
            let data = Bytes::from(row.get::<_, Vec<u8>>(2)?);
            bytes += data.len();
            parts.push(StoredPart { first_item: row.get(0)?, items: row.get(1)?, data });
        }
        Ok(parts)
    };
    read().map_err(StoreError::database("reading results"))
}

pub(super) fn attempts(db: &Connection, job: JobId) -> Result<Vec<AttemptRecord>, StoreError> {
    let read = || {
        db.prepare_cached(
            "SELECT attempt, worker, started_at, ended_at, outcome, code, message FROM attempts
             WHERE job = ? ORDER BY attempt",
        )?
        .query_map([job.as_bytes()], |row| {
            Ok(AttemptRecord {
                attempt: Attempt::new(row.get(0)?).unwrap_or(Attempt::FIRST),
                worker: WorkerId::from_bytes(row.get(1)?),
                started_at: time(row, 2)?,
                ended_at: optional_time(row, 3)?,
                outcome: number(row, 4, AttemptOutcome::from_number)?,
                code: row.get(5)?,
                message: row.get(6)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()
    };
    read().map_err(StoreError::database("reading attempts"))
}
