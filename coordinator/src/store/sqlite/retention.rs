//! Removing what has been kept long enough.

use rusqlite::{Connection, params};
use stoker_core::ids::JobId;
use stoker_core::job::StateKind;
use stoker_core::time::Timestamp;

use crate::store::StoreError;
use crate::store::lanes::{Delta, LaneId};

use super::rows::number;
use super::writer::Write;

/// Removes results of jobs that ended before `results_before`, and whole jobs that ended before
/// `jobs_before`: up to `limit` of each. Answers how many jobs lost something.
pub(super) fn expire(
    write: &mut Write<'_>,
    results_before: Timestamp,
    jobs_before: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let results = remove_results(write.db, results_before, limit)
        .map_err(StoreError::database("removing old results"))?;
    let jobs = remove_jobs(write.db, jobs_before, limit)
        .map_err(StoreError::database("removing old jobs"))?;
    let removed = results + jobs.len() as u64;
    for (lane, state) in jobs {
        write.removed(Delta { lane, from: Some(state), to: None });
    }
    Ok(removed)
}

/// Results and checkpoints. The input of a job that can be retried stays as long as the job.
fn remove_results(db: &Connection, before: Timestamp, limit: u32) -> rusqlite::Result<u64> {
    let jobs: Vec<(JobId, StateKind)> = db
        .prepare_cached(
            "SELECT id, state FROM jobs INDEXED BY jobs_with_results WHERE has_results = 1
             AND finished_at IS NOT NULL AND finished_at < ? ORDER BY finished_at LIMIT ?",
        )?
        .query_map(params![before.as_unix_millis(), limit], |row| {
            Ok((JobId::from_bytes(row.get(0)?), number(row, 1, StateKind::from_number)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (job, state) in &jobs {
        db.prepare_cached("DELETE FROM results WHERE job = ?")?.execute([job.as_bytes()])?;
        db.prepare_cached("UPDATE jobs SET has_results = 0 WHERE id = ?")?
            .execute([job.as_bytes()])?;
        if *state == StateKind::Succeeded {
            db.prepare_cached("DELETE FROM inputs WHERE job = ?")?.execute([job.as_bytes()])?;
        }
    }
    Ok(jobs.len() as u64)
}

fn remove_jobs(
    db: &Connection,
    before: Timestamp,
    limit: u32,
) -> rusqlite::Result<Vec<(LaneId, StateKind)>> {
    let jobs: Vec<(JobId, LaneId, StateKind)> = db
        .prepare_cached(
            "SELECT id, lane, state FROM jobs
             WHERE finished_at IS NOT NULL AND finished_at < ? ORDER BY finished_at LIMIT ?",
        )?
        .query_map(params![before.as_unix_millis(), limit], |row| {
            let state = number(row, 2, StateKind::from_number)?;
            Ok((JobId::from_bytes(row.get(0)?), row.get(1)?, state))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (job, _, _) in &jobs {
        db.prepare_cached(
            "DELETE FROM idempotency WHERE (tenant, key) IN (
                 SELECT tenant, idempotency_key FROM jobs JOIN lanes ON lanes.id = lane
                 WHERE jobs.id = ?1 AND idempotency_key IS NOT NULL)",
        )?
        .execute([job.as_bytes()])?;
        for sql in [
            "DELETE FROM results WHERE job = ?",
            "DELETE FROM inputs WHERE job = ?",
            "DELETE FROM attempts WHERE job = ?",
            "DELETE FROM outbox WHERE job = ?",
            "DELETE FROM jobs WHERE id = ?",
        ] {
            db.prepare_cached(sql)?.execute([job.as_bytes()])?;
        }
    }
    Ok(jobs.into_iter().map(|(_, lane, state)| (lane, state)).collect())
}
