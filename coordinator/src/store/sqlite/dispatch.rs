//! Reading what waits for a worker, for a timer, or for the broker.

use rusqlite::{Connection, OptionalExtension as _, params};
use stoker_core::ids::{DispatchSeq, JobId};
use stoker_core::job::StateKind;
use stoker_core::time::Timestamp;

use crate::store::job_row::StoredJob;
use crate::store::lanes::{LaneEntry, LaneId, SharedLanes};
use crate::store::{Lane, LaneSet, OutboxEntry, StoreError, WaitingTenant, verbs, waiting};

use super::rows::{self, COLUMNS, optional_time, time};
use super::writer::Write;

pub(super) fn waiting(
    db: &Connection,
    lanes: &SharedLanes,
    lane: &Lane,
    heads: u32,
) -> Result<Vec<WaitingTenant>, StoreError> {
    let mut found = Vec::new();
    for entry in lanes.matching(|names| names.lane == *lane) {
        let first = match entry.counts.get(StateKind::Queued) {
            0 => Vec::new(),
            _ => first_waiting(db, entry.id, heads)
                .map_err(StoreError::database("reading what waits"))?,
        };
        found.push((entry, first));
    }
    Ok(waiting::by_tenant(found, heads))
}

fn first_waiting(
    db: &Connection,
    lane: LaneId,
    limit: u32,
) -> rusqlite::Result<Vec<(JobId, Timestamp)>> {
    db.prepare_cached(
        "SELECT id, start_by FROM jobs INDEXED BY jobs_waiting WHERE state = 1 AND lane = ?
         ORDER BY start_by, id LIMIT ?",
    )?
    .query_map(params![lane, limit], |row| Ok((JobId::from_bytes(row.get(0)?), time(row, 1)?)))?
    .collect()
}

pub(super) fn oldest_waiting(
    db: &Connection,
    lanes: &SharedLanes,
    lane: &Lane,
) -> Result<Option<Timestamp>, StoreError> {
    let mut oldest: Option<Timestamp> = None;
    for LaneEntry { id, names: _, counts } in lanes.matching(|names| names.lane == *lane) {
        if counts.get(StateKind::Queued) + counts.get(StateKind::Dispatched) > 0 {
            let of_lane =
                oldest_of(db, id).map_err(StoreError::database("reading what waits longest"))?;
            oldest = oldest.into_iter().chain(of_lane).min();
        }
    }
    Ok(oldest)
}

/// Jobs that have run before wait for another start, which is no wait. Within one lane the class
/// is one, so the queued job with least slack is the oldest; dispatched ones are few.
fn oldest_of(db: &Connection, lane: LaneId) -> rusqlite::Result<Option<Timestamp>> {
    let queued = db
        .prepare_cached(
            "SELECT accepted_at FROM jobs INDEXED BY jobs_waiting
             WHERE state = 1 AND lane = ? AND started_at IS NULL ORDER BY start_by, id LIMIT 1",
        )?
        .query_row([lane], |row| time(row, 0))
        .optional()?;
    let dispatched = db
        .prepare_cached(
            "SELECT min(accepted_at) FROM jobs INDEXED BY jobs_dispatched
             WHERE state = 2 AND lane = ? AND started_at IS NULL",
        )?
        .query_row([lane], |row| optional_time(row, 0))?;
    Ok(queued.into_iter().chain(dispatched).min())
}

pub(super) fn first_start(
    db: &Connection,
    lanes: &SharedLanes,
    lane: &Lane,
) -> Result<Option<Timestamp>, StoreError> {
    let mut first: Option<Timestamp> = None;
    for LaneEntry { id, names: _, counts } in lanes.matching(|names| names.lane == *lane) {
        if counts.get(StateKind::Queued) + counts.get(StateKind::Dispatched) > 0 {
            let of_lane =
                first_of(db, id).map_err(StoreError::database("reading what starts first"))?;
            first = first.into_iter().chain(of_lane).min();
        }
    }
    Ok(first)
}

fn first_of(db: &Connection, lane: LaneId) -> rusqlite::Result<Option<Timestamp>> {
    let queued = first_waiting(db, lane, 1)?.first().map(|(_, start_by)| *start_by);
    let dispatched = db
        .prepare_cached(
            "SELECT min(start_by) FROM jobs INDEXED BY jobs_dispatched WHERE state = 2 AND lane = ?",
        )?
        .query_row([lane], |row| optional_time(row, 0))?;
    Ok(queued.into_iter().chain(dispatched).min())
}

pub(super) fn republish(write: &mut Write<'_>) -> Result<u64, StoreError> {
    let jobs = write
        .db
        .prepare_cached(
            "INSERT OR REPLACE INTO outbox (job, seq)
             SELECT id, dispatch_seq FROM jobs INDEXED BY jobs_dispatched WHERE state = 2",
        )
        .and_then(|mut statement| statement.execute([]))
        .map_err(StoreError::database("writing the outbox"))?;
    Ok(jobs as u64)
}

pub(super) fn outbox(
    db: &Connection,
    lanes: &SharedLanes,
    limit: u32,
    of: &LaneSet,
) -> Result<Vec<OutboxEntry>, StoreError> {
    let wanted = lanes.condition(|names| of.contains(&names.lane));
    let read = || {
        db.prepare_cached(&format!(
            "SELECT {COLUMNS}, seq FROM outbox CROSS JOIN jobs ON job = id{wanted} LIMIT ?"
        ))?
        .query_map([limit], |row| Ok((rows::read(row)?, DispatchSeq::new(row.get("seq")?))))?
        .collect::<rusqlite::Result<Vec<_>>>()
    };
    read()
        .map_err(StoreError::database("reading the outbox"))?
        .into_iter()
        .map(|(row, seq)| verbs::entry(lanes, &StoredJob::from_columns(row)?, seq))
        .collect()
}

pub(super) fn outbox_len(db: &Connection) -> Result<u64, StoreError> {
    db.prepare_cached("SELECT count(*) FROM outbox")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(StoreError::database("counting the outbox"))
}

/// When the next timer is due.
pub(super) fn next_due(db: &Connection) -> Result<Option<Timestamp>, StoreError> {
    db.prepare_cached("SELECT min(due_at) FROM jobs WHERE due_at IS NOT NULL")
        .and_then(|mut statement| statement.query_row([], |row| optional_time(row, 0)))
        .map_err(StoreError::database("reading when something is due"))
}
