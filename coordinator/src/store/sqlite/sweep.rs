//! Timers: leases, redispatches, retries, deadlines; and the worker that went away.

use std::time::Duration;

use rusqlite::{OptionalExtension as _, params};
use stoker_core::ids::{JobId, WorkerId};
use stoker_core::job::{Event, State, due_event};
use stoker_core::outbox::check_again_after;
use stoker_core::time::Timestamp;

use crate::store::{Lane, StoreError, Swept};

use super::dispatch::put_into_outbox;
use super::rows::{StoredJob, optional_time};
use super::writer::Write;

/// How long a job that cannot be handled is left alone.
const MEND: Duration = Duration::from_mins(5);

/// One round of work for timers.
pub(super) struct Sweep {
    pub(super) asked_at: Timestamp,
    pub(super) limit: u32,
    /// Queues that hold a message for each dispatched job.
    pub(super) intact: Vec<Lane>,
}

/// Applies what is due, oldest first.
pub(super) fn sweep(write: &mut Write<'_>, work: &Sweep) -> Result<Swept, StoreError> {
    let due = due_jobs(write, work).map_err(StoreError::database("reading what is due"))?;
    let mut changed = 0;
    for job in due {
        match sweep_one(write, work, job) {
            Ok(done) => changed += u32::from(done),
            // It must not keep the others from what is due to them.
            Err(StoreError::Corrupt(problem)) => {
                tracing::error!(%job, problem, "a job's timer cannot be applied; later again");
                put_off(write, job, MEND)?;
            }
            Err(error) => return Err(error),
        }
    }
    let next_due = write
        .db
        .prepare_cached("SELECT min(due_at) FROM jobs WHERE due_at IS NOT NULL")
        .and_then(|mut statement| statement.query_row([], |row| optional_time(row, 0)).optional())
        .map_err(StoreError::database("reading when something is due"))?;
    Ok(Swept { changed, next_due: next_due.flatten() })
}

/// True when the job changed.
fn sweep_one(write: &mut Write<'_>, work: &Sweep, job: JobId) -> Result<bool, StoreError> {
    let Some(mut stored) = StoredJob::load(write.db, job)? else { return Ok(false) };
    let jitter = stoker_runtime::ids::jitter();
    let event = due_event(&stored.job, work.asked_at, &write.policy.lease, jitter);
    let Some(event) = event else {
        // The column disagrees with the rule, after a change of the policy: set it right.
        stored.save(write)?;
        return Ok(false);
    };
    let redispatch = event == Event::RedispatchDue;
    if redispatch && work.intact.contains(&stored.names(write.lanes)?.lane) {
        put_off(write, job, check_again_after(&write.policy.lease))?;
        return Ok(false);
    }
    if let Err(refusal) = stored.transit(write, &event)? {
        return Err(StoreError::Corrupt(format!("a due event was refused: {refusal}")));
    }
    if redispatch {
        put_into_outbox(write, &stored)?;
    }
    Ok(true)
}

/// Looks at a job's timer again after this time.
fn put_off(write: &Write<'_>, job: JobId, by: Duration) -> Result<(), StoreError> {
    let again = write.now.after(by).as_unix_millis();
    write
        .db
        .prepare_cached("UPDATE jobs SET due_at = ? WHERE id = ?")
        .and_then(|mut statement| statement.execute(params![again, job.as_bytes()]))
        .map(drop)
        .map_err(StoreError::database("putting off a timer"))
}

fn due_jobs(write: &Write<'_>, work: &Sweep) -> rusqlite::Result<Vec<JobId>> {
    write
        .db
        .prepare_cached(
            "SELECT id FROM jobs WHERE due_at IS NOT NULL AND due_at <= ?
             ORDER BY due_at LIMIT ?",
        )?
        .query_map(params![work.asked_at.as_unix_millis(), work.limit], |row| {
            row.get(0).map(JobId::from_bytes)
        })?
        .collect()
}

/// Shortens the leases of a worker whose stream broke.
pub(super) fn disconnect(write: &mut Write<'_>, worker: WorkerId) -> Result<(), StoreError> {
    for job in leased(write, Some(worker))? {
        let Some(mut stored) = StoredJob::load(write.db, job)? else { continue };
        // A refusal means that the lease ends sooner than the grace: nothing to shorten.
        let _ = stored.transit(write, &Event::WorkerDisconnected { worker })?;
    }
    Ok(())
}

/// Gives each lease a full life from now on.
pub(super) fn grant_amnesty(write: &mut Write<'_>) -> Result<u64, StoreError> {
    let jobs = leased(write, None)?;
    for job in &jobs {
        let Some(mut stored) = StoredJob::load(write.db, *job)? else { continue };
        if let State::Leased(lease) = &mut stored.job.state {
            lease.grant_amnesty(write.now, &write.policy.lease);
            stored.save(write)?;
        }
    }
    Ok(jobs.len() as u64)
}

fn leased(write: &Write<'_>, worker: Option<WorkerId>) -> Result<Vec<JobId>, StoreError> {
    let worker = worker.map(|worker| *worker.as_bytes());
    let read = || {
        let id = |row: &rusqlite::Row<'_>| row.get(0).map(JobId::from_bytes);
        match worker {
            Some(worker) => write
                .db
                .prepare_cached("SELECT id FROM jobs WHERE state = 3 AND lease_worker = ?")?
                .query_map([worker], id)?
                .collect(),
            None => write
                .db
                .prepare_cached("SELECT id FROM jobs WHERE state = 3")?
                .query_map([], id)?
                .collect::<rusqlite::Result<Vec<_>>>(),
        }
    };
    read().map_err(StoreError::database("reading leases"))
}
