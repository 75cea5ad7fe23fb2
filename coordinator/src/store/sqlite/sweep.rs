//! Timers: leases, redispatches, retries, deadlines; and the worker that went away.

use rusqlite::{OptionalExtension as _, params};
use stoker_core::ids::{JobId, WorkerId};
use stoker_core::job::{Event, State, due_event};

use crate::store::{StoreError, Swept};

use super::dispatch::put_into_outbox;
use super::rows::{StoredJob, optional_time};
use super::writer::Write;

/// Applies what is due, oldest first.
pub(super) fn sweep(write: &mut Write<'_>, limit: u32) -> Result<Swept, StoreError> {
    let due = due_jobs(write, limit).map_err(StoreError::database("reading what is due"))?;
    let mut changed = 0;
    for job in due {
        let Some(mut stored) = StoredJob::load(write.db, job)? else { continue };
        let jitter = stoker_runtime::ids::jitter();
        let event = due_event(&stored.job, write.now, &write.policy.lease, jitter);
        let Some(event) = event else {
            // The column disagrees with the rule, after a change of the policy: set it right.
            stored.save(write)?;
            continue;
        };
        match stored.transit(write, &event)? {
            Ok(()) => {
                changed += 1;
                if event == Event::RedispatchDue {
                    put_into_outbox(write, &stored)?;
                }
            }
            Err(refusal) => {
                return Err(StoreError::Corrupt(format!("a due event was refused: {refusal}")));
            }
        }
    }
    let next_due = write
        .db
        .prepare_cached("SELECT min(due_at) FROM jobs WHERE due_at IS NOT NULL")
        .and_then(|mut statement| statement.query_row([], |row| optional_time(row, 0)).optional())
        .map_err(StoreError::database("reading when something is due"))?;
    Ok(Swept { changed, next_due: next_due.flatten() })
}

fn due_jobs(write: &Write<'_>, limit: u32) -> rusqlite::Result<Vec<JobId>> {
    write
        .db
        .prepare_cached(
            "SELECT id FROM jobs WHERE due_at IS NOT NULL AND due_at <= ?
             ORDER BY due_at LIMIT ?",
        )?
        .query_map(params![write.now.as_unix_millis(), limit], |row| {
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
            let full = write.now.after(write.policy.lease.ttl).min(lease.must_end_by);
            lease.expires_at = lease.expires_at.max(full);
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
