//! Reading jobs, results and attempts.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, params};
use stoker_core::ids::{Attempt, JobId, WorkerId};
use stoker_core::job::{AttemptOutcome, AttemptRecord, JobRecord};

use crate::store::{Filter, Page, StoreError, StoredPart, TenantScope};

use super::lanes::{LaneId, SharedLanes};
use super::rows::{COLUMNS, StoredJob, number, optional_time, time};

/// Rows that one page looks at; a page that found little by then is short and says where to go on.
const SCAN_LIMIT: usize = 20_000;

/// No call takes longer to be committed.
const LONGEST_CALL: Duration = Duration::from_mins(1);

pub(super) fn get_many(
    db: &Connection,
    lanes: &SharedLanes,
    scope: &TenantScope,
    jobs: &[JobId],
) -> Result<Vec<JobRecord>, StoreError> {
    let mut found = Vec::with_capacity(jobs.len());
    for job in jobs {
        let Some(stored) = StoredJob::load(db, *job)? else { continue };
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
    let wanted: BTreeSet<LaneId> = lanes
        .matching(|names| {
            filter.scope.contains(&names.tenant)
                && filter.model.as_ref().is_none_or(|model| *model == names.lane.model)
                && filter.class.as_ref().is_none_or(|class| *class == names.class)
        })
        .into_iter()
        .map(|(id, _, _)| id)
        .collect();
    let mut statement = db.prepare(&sql(filter)).map_err(StoreError::database("listing jobs"))?;
    let mut rows = statement.query([]).map_err(StoreError::database("listing jobs"))?;
    let mut page = Page { jobs: Vec::new(), next: None };
    let mut scanned = 0;
    while let Some(row) = rows.next().map_err(StoreError::database("listing jobs"))? {
        if page.jobs.len() >= filter.limit as usize || scanned >= SCAN_LIMIT {
            return Ok(page);
        }
        let stored = StoredJob::read(row).map_err(StoreError::database("reading a listed job"))?;
        scanned += 1;
        page.next = Some(stored.job.id);
        if wanted.contains(&stored.lane) && matches(&stored, filter)? {
            page.jobs.push(stored.record(lanes)?);
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
    let mut bound = |comparison: &str, id: JobId| {
        let _ = write!(sql, " AND id {comparison} x'{}'", id.as_uuid().simple());
    };
    if let Some(before) = filter.before {
        bound("<", before);
    }
    // An id begins with the time at which it was made, which is at most a call's time earlier than
    // that of the acceptance.
    if let Some(before) = filter.accepted_before {
        bound("<", JobId::first_of(before));
    }
    if let Some(after) = filter.accepted_after {
        bound(">=", JobId::first_of(after.before(LONGEST_CALL)));
    }
    sql.push_str(" ORDER BY id DESC");
    sql
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

fn matches(stored: &StoredJob, filter: &Filter) -> Result<bool, StoreError> {
    let accepted_at = stored.job.accepted_at;
    if filter.accepted_after.is_some_and(|after| accepted_at < after)
        || filter.accepted_before.is_some_and(|before| accepted_at >= before)
    {
        return Ok(false);
    }
    if filter.only_dead_letters && (stored.discarded || stored.retried_as.is_some()) {
        return Ok(false);
    }
    if !filter.states.is_empty() && !filter.states.contains(&stored.job.state.kind()) {
        return Ok(false);
    }
    if let Some(reason) = filter.failure
        && stored.job.failure.as_ref().is_none_or(|failure| failure.reason != reason)
    {
        return Ok(false);
    }
    if filter.labels.is_empty() {
        return Ok(true);
    }
    let labels = stored.labels()?;
    Ok(filter.labels.iter().all(|(key, value)| labels.get(key) == Some(value)))
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
