//! What clients and operators do to a job that exists: cancel, retry, discard.

use bytes::Bytes;
use rusqlite::params;
use stoker_core::ids::JobId;
use stoker_core::job::{Event, State, StateKind};
use stoker_core::time::Timestamp;

use crate::store::{Cancelled, NewJob, Retried, StoreError, TenantScope};

use super::claim::input;
use super::rows::StoredJob;
use super::submit::insert;
use super::writer::Write;

pub(super) fn cancel(
    write: &mut Write<'_>,
    scope: &TenantScope,
    job: JobId,
) -> Result<Cancelled, StoreError> {
    let Some(mut stored) = load_in_scope(write, scope, job)? else {
        return Ok(Cancelled::Unknown);
    };
    let accepted = stored.transit(write, &Event::CancelRequested)?.is_ok();
    let record = stored.record(write.lanes)?;
    if accepted || stored.job.state == State::Cancelled {
        return Ok(Cancelled::Done(record));
    }
    Ok(Cancelled::EndedBefore(record))
}

pub(super) fn retry(
    write: &mut Write<'_>,
    scope: &TenantScope,
    job: JobId,
    new_id: JobId,
) -> Result<Retried, StoreError> {
    let Some(mut stored) = load_in_scope(write, scope, job)? else {
        return Ok(Retried::Unknown);
    };
    if let Some(earlier) = stored.retried_as
        && let Some(retried) = StoredJob::load(write.db, earlier)?
    {
        return Ok(Retried::As(retried.record(write.lanes)?));
    }
    match stored.job.state.kind() {
        StateKind::Failed | StateKind::Cancelled | StateKind::Expired => {}
        StateKind::Queued
        | StateKind::Dispatched
        | StateKind::Leased
        | StateKind::RetryWait
        | StateKind::Succeeded => {
            return Ok(Retried::NotRetryable(stored.record(write.lanes)?));
        }
    }
    let Some(input) = input(write, job)? else {
        return Ok(Retried::InputGone(stored.record(write.lanes)?));
    };
    let new = again(write, &stored, new_id, input)?;
    insert(write, &new, Some(job))?;
    stored.retried_as = Some(new_id);
    stored.save(write)?;
    let retried = StoredJob::load(write.db, new_id)?
        .ok_or_else(|| StoreError::Corrupt(format!("job {new_id} vanished as it was made")))?;
    Ok(Retried::As(retried.record(write.lanes)?))
}

/// The same job once more, from now on.
fn again(
    write: &Write<'_>,
    stored: &StoredJob,
    id: JobId,
    input: Bytes,
) -> Result<NewJob, StoreError> {
    let names = stored.names(write.lanes)?;
    let accepted_at = stored.job.accepted_at;
    let shifted = |time: Timestamp| write.now.after(time.since(accepted_at));
    Ok(NewJob {
        id,
        tenant: names.tenant.clone(),
        class: names.class.clone(),
        lane: names.lane.clone(),
        task: stored.task,
        input,
        items: stored.job.items_total,
        idempotency: None,
        accepted_at: write.now,
        deadline_at: match stored.job.deadline_at {
            Timestamp::MAX => Timestamp::MAX,
            deadline => shifted(deadline),
        },
        start_by: shifted(stored.start_by),
        labels: stored.labels()?,
        trace: stored.trace(),
    })
}

pub(super) fn discard(write: &mut Write<'_>, jobs: &[JobId]) -> Result<u32, StoreError> {
    let mark = || {
        let mut statement = write.db.prepare_cached(
            "UPDATE jobs SET discarded = 1
             WHERE id = ? AND state = 6 AND discarded = 0 AND retried_as IS NULL",
        )?;
        let mut discarded = 0;
        for job in jobs {
            discarded += u32::try_from(statement.execute(params![job.as_bytes()])?).unwrap_or(0);
        }
        Ok(discarded)
    };
    mark().map_err(StoreError::database("discarding dead letters"))
}

fn load_in_scope(
    write: &Write<'_>,
    scope: &TenantScope,
    job: JobId,
) -> Result<Option<StoredJob>, StoreError> {
    let Some(stored) = StoredJob::load(write.db, job)? else { return Ok(None) };
    let in_scope = scope.contains(&stored.names(write.lanes)?.tenant);
    Ok(in_scope.then_some(stored))
}
