//! Accepting jobs.

use rusqlite::{Connection, OptionalExtension as _, params};
use stoker_core::ids::{JobId, TenantName};
use stoker_core::job::{Effect, Job, StateKind, next_due};
use stoker_core::request::Idempotency;
use stoker_core::time::Timestamp;

use crate::store::{Change, NewJob, StoreError, Submitted};

use super::lanes::{Delta, LaneId, LaneNames};
use super::rows::trace_to_text;
use super::writer::Write;

/// Stores all jobs, or none when an idempotency key was used for something else.
pub(super) fn submit(write: &mut Write<'_>, jobs: &[NewJob]) -> Result<Vec<Submitted>, StoreError> {
    jobs.iter()
        .enumerate()
        .map(|(index, job)| {
            if let Some(idempotency) = &job.idempotency {
                let earlier = remember_key(write.db, job, idempotency)
                    .map_err(StoreError::database("writing an idempotency key"))?;
                match earlier {
                    Some(Earlier { job, same: true }) => {
                        return Ok(Submitted { job, created: false });
                    }
                    Some(Earlier { job, same: false }) => {
                        return Err(StoreError::KeyReused { index, job });
                    }
                    None => {}
                }
            }
            insert(write, job, None)?;
            Ok(Submitted { job: job.id, created: true })
        })
        .collect()
}

struct Earlier {
    job: JobId,
    same: bool,
}

/// Stores the key, or answers with the job that it was used for.
fn remember_key(
    db: &Connection,
    job: &NewJob,
    idempotency: &Idempotency,
) -> rusqlite::Result<Option<Earlier>> {
    let tenant = job.tenant.as_str();
    let inserted = db
        .prepare_cached(
            "INSERT INTO idempotency (tenant, key, digest, job) VALUES (?, ?, ?, ?)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![tenant, idempotency.key, idempotency.request_digest, job.id.as_bytes()])?;
    if inserted == 1 {
        return Ok(None);
    }
    earlier(db, &job.tenant, idempotency)
}

/// The job that a key was used for.
fn earlier(
    db: &Connection,
    tenant: &TenantName,
    idempotency: &Idempotency,
) -> rusqlite::Result<Option<Earlier>> {
    db.prepare_cached("SELECT digest, job FROM idempotency WHERE tenant = ? AND key = ?")?
        .query_row(params![tenant.as_str(), idempotency.key], |row| {
            let digest: [u8; 32] = row.get(0)?;
            Ok(Earlier {
                same: digest == idempotency.request_digest,
                job: JobId::from_bytes(row.get(1)?),
            })
        })
        .optional()
}

/// The jobs of these keys; `None` unless each was used before by the same request.
pub(super) fn repeated(
    db: &Connection,
    tenant: &TenantName,
    keys: &[Idempotency],
) -> Result<Option<Vec<JobId>>, StoreError> {
    let mut jobs = Vec::with_capacity(keys.len());
    for key in keys {
        let earlier =
            earlier(db, tenant, key).map_err(StoreError::database("reading idempotency keys"))?;
        match earlier {
            Some(Earlier { job, same: true }) => jobs.push(job),
            Some(Earlier { same: false, .. }) | None => return Ok(None),
        }
    }
    Ok(Some(jobs))
}

/// Stores one job as queued.
pub(super) fn insert(
    write: &mut Write<'_>,
    new: &NewJob,
    retry_of: Option<JobId>,
) -> Result<(), StoreError> {
    let names =
        LaneNames { tenant: new.tenant.clone(), class: new.class.clone(), lane: new.lane.clone() };
    let lane =
        write.lanes.intern(write.db, &names).map_err(StoreError::database("writing a lane"))?;
    let job = Job::accepted(new.id, new.items, new.accepted_at, new.deadline_at);
    let due_at = next_due(&job, &write.policy.lease);
    insert_rows(write.db, new, lane, (due_at, retry_of))
        .map_err(StoreError::database("writing a new job"))?;
    let change = Change {
        job: new.id,
        class: new.class.clone(),
        lane: new.lane.clone(),
        from: None,
        to: StateKind::Queued,
        effects: vec![Effect::WakeDispatcher],
        waited: None,
    };
    write.changed(change, Delta { lane, from: None, to: Some(StateKind::Queued) });
    Ok(())
}

fn insert_rows(
    db: &Connection,
    new: &NewJob,
    lane: LaneId,
    (due_at, retry_of): (Option<Timestamp>, Option<JobId>),
) -> rusqlite::Result<()> {
    let labels = (!new.labels.is_empty())
        .then(|| serde_json::to_string(&new.labels))
        .transpose()
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    db.prepare_cached(
        "INSERT INTO jobs (id, lane, task, state, dispatch_seq, last_attempt, failures, crashes,
             lost_workers, interruptions, accepted_at, deadline_at, start_by, items_total,
             items_done, run_alone, due_at, labels, trace, idempotency_key, input_bytes,
             result_bytes, has_results, retry_of, discarded)
         VALUES (?1, ?2, ?3, ?4, 0, 0, 0, 0, 0, 0, ?5, ?6, ?7, ?8, 0, 0, ?9, ?10, ?11, ?12, ?13,
             0, 0, ?14, 0)",
    )?
    .execute(params![
        new.id.as_bytes(),
        lane,
        new.task.number(),
        StateKind::Queued.number(),
        new.accepted_at.as_unix_millis(),
        new.deadline_at.as_unix_millis(),
        new.start_by.as_unix_millis(),
        new.items,
        due_at.map(Timestamp::as_unix_millis),
        labels,
        trace_to_text(&new.trace),
        new.idempotency.as_ref().map(|idempotency| &idempotency.key),
        new.input.len(),
        retry_of.map(|id| *id.as_bytes()),
    ])?;
    db.prepare_cached("INSERT INTO inputs (job, input) VALUES (?, ?)")?
        .execute(params![new.id.as_bytes(), &new.input[..]])?;
    Ok(())
}
