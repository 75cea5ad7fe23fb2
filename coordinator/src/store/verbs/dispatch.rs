//! The way of what waits into the outbox, and out of it.

use stoker_core::ids::{DispatchSeq, JobId};
use stoker_core::job::Event;

use crate::store::job_row::StoredJob;
use crate::store::lanes::SharedLanes;
use crate::store::tables::Tables;
use crate::store::{OutboxEntry, StoreError};

pub(in crate::store) fn dispatch(
    tables: &mut dyn Tables,
    jobs: &[JobId],
) -> Result<Vec<OutboxEntry>, StoreError> {
    let mut entries = Vec::with_capacity(jobs.len());
    for job in jobs {
        let Some(mut stored) = tables.job(*job)? else { continue };
        if stored.transit(tables, &Event::DispatchChosen)?.is_ok() {
            let seq = stored.job.dispatch_seq;
            tables.put_into_outbox(*job, seq)?;
            entries.push(entry(tables.lanes(), &stored, seq)?);
        }
    }
    Ok(entries)
}

pub(in crate::store) fn clear_outbox(
    tables: &mut dyn Tables,
    entries: &[OutboxEntry],
) -> Result<(), StoreError> {
    entries.iter().try_for_each(|entry| tables.clear_outbox(entry.job, entry.seq))
}

/// The message that tells of a job's dispatch.
pub(in crate::store) fn entry(
    lanes: &SharedLanes,
    stored: &StoredJob,
    seq: DispatchSeq,
) -> Result<OutboxEntry, StoreError> {
    let lane = stored.names(lanes)?.lane.clone();
    Ok(OutboxEntry { job: stored.job.id, seq, lane, trace: stored.trace() })
}
