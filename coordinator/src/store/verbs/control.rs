//! What clients and operators do to a job that exists: cancel, retry, discard.

use bytes::Bytes;
use stoker_core::ids::JobId;
use stoker_core::job::{Event, State, StateKind};
use stoker_core::time::Timestamp;

use crate::store::job_row::StoredJob;
use crate::store::tables::Tables;
use crate::store::{Cancelled, NewJob, Retried, StoreError, TenantScope};

use super::submit::insert;

pub(in crate::store) fn cancel(
    tables: &mut dyn Tables,
    scope: &TenantScope,
    job: JobId,
) -> Result<Cancelled, StoreError> {
    let Some(mut stored) = load_in_scope(tables, scope, job)? else {
        return Ok(Cancelled::Unknown);
    };
    let accepted = stored.transit(tables, &Event::CancelRequested)?.is_ok();
    let record = stored.record(tables.lanes())?;
    if accepted || stored.job.state == State::Cancelled {
        return Ok(Cancelled::Done(record));
    }
    Ok(Cancelled::EndedBefore(record))
}

pub(in crate::store) fn retry(
    tables: &mut dyn Tables,
    scope: &TenantScope,
    job: JobId,
    new_id: JobId,
) -> Result<Retried, StoreError> {
    let Some(mut stored) = load_in_scope(tables, scope, job)? else {
        return Ok(Retried::Unknown);
    };
    if let Some(earlier) = stored.retried_as
        && let Some(retried) = tables.job(earlier)?
    {
        return Ok(Retried::As(retried.record(tables.lanes())?));
    }
    match stored.job.state.kind() {
        StateKind::Failed | StateKind::Cancelled | StateKind::Expired => {}
        StateKind::Queued
        | StateKind::Dispatched
        | StateKind::Leased
        | StateKind::RetryWait
        | StateKind::Succeeded => {
            return Ok(Retried::NotRetryable(stored.record(tables.lanes())?));
        }
    }
    let Some(input) = tables.input(job)? else {
        return Ok(Retried::InputGone(stored.record(tables.lanes())?));
    };
    let new = again(tables, &stored, new_id, input)?;
    let retried = insert(tables, &new, Some(job))?;
    stored.retried_as = Some(new_id);
    tables.save(&stored)?;
    Ok(Retried::As(retried.record(tables.lanes())?))
}

/// The same job once more, from now on.
fn again(
    tables: &dyn Tables,
    stored: &StoredJob,
    id: JobId,
    input: Bytes,
) -> Result<NewJob, StoreError> {
    let names = stored.names(tables.lanes())?;
    let accepted_at = stored.job.accepted_at;
    let shifted = |time: Timestamp| tables.now().after(time.since(accepted_at));
    Ok(NewJob {
        id,
        tenant: names.tenant.clone(),
        class: names.class.clone(),
        lane: names.lane.clone(),
        task: stored.task,
        input,
        items: stored.job.items_total,
        idempotency: None,
        accepted_at: tables.now(),
        deadline_at: match stored.job.deadline_at {
            Timestamp::MAX => Timestamp::MAX,
            deadline => shifted(deadline),
        },
        start_by: shifted(stored.start_by),
        labels: stored.labels()?,
        trace: stored.trace(),
    })
}

pub(in crate::store) fn discard(
    tables: &mut dyn Tables,
    jobs: &[JobId],
) -> Result<u32, StoreError> {
    let mut discarded = 0;
    for job in jobs {
        let Some(mut stored) = tables.job(*job)? else { continue };
        if stored.job.state == State::Failed && !stored.discarded && stored.retried_as.is_none() {
            stored.discarded = true;
            tables.save(&stored)?;
            discarded += 1;
        }
    }
    Ok(discarded)
}

fn load_in_scope(
    tables: &mut dyn Tables,
    scope: &TenantScope,
    job: JobId,
) -> Result<Option<StoredJob>, StoreError> {
    let Some(stored) = tables.job(job)? else { return Ok(None) };
    let in_scope = scope.contains(&stored.names(tables.lanes())?.tenant);
    Ok(in_scope.then_some(stored))
}
