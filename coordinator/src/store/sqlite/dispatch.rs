//! What waits, and its way into the outbox.

use rusqlite::{Connection, OptionalExtension as _, params};
use stoker_core::ids::{DispatchSeq, JobId};
use stoker_core::job::{Event, StateKind};
use stoker_core::time::Timestamp;

use crate::store::{Lane, LaneSet, OutboxEntry, StoreError, WaitingTenant};

use super::lanes::{LaneId, SharedLanes};
use super::rows::{COLUMNS, StoredJob, optional_time, time};
use super::writer::Write;

pub(super) fn waiting(
    db: &Connection,
    lanes: &SharedLanes,
    lane: &Lane,
    heads: u32,
) -> Result<Vec<WaitingTenant>, StoreError> {
    let mut tenants: Vec<WaitingTenant> = Vec::new();
    for (id, names, counts) in lanes.matching(|names| names.lane == *lane) {
        let index = tenants.iter().position(|tenant| tenant.tenant == names.tenant);
        let index = index.unwrap_or_else(|| {
            let tenant = names.tenant.clone();
            tenants.push(WaitingTenant { tenant, in_flight: 0, heads: Vec::new() });
            tenants.len() - 1
        });
        let tenant = &mut tenants[index];
        let in_flight = u32::try_from(counts.in_flight()).unwrap_or(u32::MAX);
        tenant.in_flight = tenant.in_flight.saturating_add(in_flight);
        if counts.get(StateKind::Queued) > 0 {
            let first =
                first_waiting(db, id, heads).map_err(StoreError::database("reading what waits"))?;
            tenant.heads.extend(first);
        }
    }
    for tenant in &mut tenants {
        tenant.heads.sort_by_key(|(job, start_by)| (*start_by, *job));
        tenant.heads.truncate(heads as usize);
    }
    tenants.retain(|tenant| !tenant.heads.is_empty() || tenant.in_flight > 0);
    Ok(tenants)
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
    for (id, _, counts) in lanes.matching(|names| names.lane == *lane) {
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

pub(super) fn dispatch(
    write: &mut Write<'_>,
    jobs: &[JobId],
) -> Result<Vec<OutboxEntry>, StoreError> {
    let mut entries = Vec::with_capacity(jobs.len());
    for job in jobs {
        let Some(mut stored) = StoredJob::load(write.db, *job)? else { continue };
        if stored.transit(write, &Event::DispatchChosen)?.is_ok() {
            entries.push(put_into_outbox(write, &stored)?);
        }
    }
    Ok(entries)
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

/// Notes that the job's last dispatch is to be published.
pub(super) fn put_into_outbox(
    write: &Write<'_>,
    stored: &StoredJob,
) -> Result<OutboxEntry, StoreError> {
    let (job, seq) = (stored.job.id, stored.job.dispatch_seq);
    write
        .db
        .prepare_cached("INSERT OR REPLACE INTO outbox (job, seq) VALUES (?, ?)")
        .and_then(|mut statement| statement.execute(params![job.as_bytes(), seq.number()]))
        .map_err(StoreError::database("writing the outbox"))?;
    entry(write.lanes, stored, seq)
}

fn entry(
    lanes: &SharedLanes,
    stored: &StoredJob,
    seq: DispatchSeq,
) -> Result<OutboxEntry, StoreError> {
    let lane = stored.names(lanes)?.lane.clone();
    Ok(OutboxEntry { job: stored.job.id, seq, lane, trace: stored.trace() })
}

pub(super) fn outbox(
    db: &Connection,
    lanes: &SharedLanes,
    limit: u32,
    of: &LaneSet,
) -> Result<Vec<OutboxEntry>, StoreError> {
    let wanted = lanes.ids(|names| of.contains(&names.lane));
    let read = || {
        db.prepare_cached(&format!(
            "SELECT {COLUMNS}, seq FROM outbox CROSS JOIN jobs ON job = id{wanted} LIMIT ?"
        ))?
        .query_map([limit], |row| Ok((StoredJob::read(row)?, DispatchSeq::new(row.get("seq")?))))?
        .collect::<rusqlite::Result<Vec<_>>>()
    };
    read()
        .map_err(StoreError::database("reading the outbox"))?
        .iter()
        .map(|(stored, seq)| entry(lanes, stored, *seq))
        .collect()
}

pub(super) fn outbox_len(db: &Connection) -> Result<u64, StoreError> {
    db.prepare_cached("SELECT count(*) FROM outbox")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(StoreError::database("counting the outbox"))
}

pub(super) fn clear_outbox(
    write: &mut Write<'_>,
    entries: &[OutboxEntry],
) -> Result<(), StoreError> {
    let clear = || {
        let mut statement =
            write.db.prepare_cached("DELETE FROM outbox WHERE job = ? AND seq = ?")?;
        for entry in entries {
            statement.execute(params![entry.job.as_bytes(), entry.seq.number()])?;
        }
        Ok(())
    };
    clear().map_err(StoreError::database("clearing the outbox"))
}
