//! Timers: leases, redispatches, retries, deadlines; and the worker that went away.

use std::time::Duration;

use stoker_core::ids::{JobId, WorkerId};
use stoker_core::job::{Event, State, due_event};
use stoker_core::outbox::look_again_at;
use stoker_core::time::Timestamp;

use crate::store::tables::Tables;
use crate::store::{Lane, StoreError};

/// How long a job that cannot be handled is left alone.
const MEND: Duration = Duration::from_mins(5);

/// One round of work for timers.
#[derive(Debug)]
pub(in crate::store) struct Sweep {
    pub(in crate::store) asked_at: Timestamp,
    pub(in crate::store) limit: u32,
    /// Queues that hold a message for each dispatched job.
    pub(in crate::store) intact: Vec<Lane>,
}

/// Applies what is due, oldest first; answers how many jobs changed.
pub(in crate::store) fn sweep(tables: &mut dyn Tables, work: &Sweep) -> Result<u32, StoreError> {
    let mut changed = 0;
    for job in tables.due(work.asked_at, work.limit)? {
        match sweep_one(tables, work, job) {
            Ok(done) => changed += u32::from(done),
            // It must not keep the others from what is due to them.
            Err(StoreError::Corrupt(problem)) => {
                tracing::error!(%job, problem, "a job's timer cannot be applied; later again");
                let mended = tables.now().after(MEND);
                tables.put_off(job, mended)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(changed)
}

/// True when the job changed.
fn sweep_one(tables: &mut dyn Tables, work: &Sweep, job: JobId) -> Result<bool, StoreError> {
    let Some(mut stored) = tables.job(job)? else { return Ok(false) };
    let jitter = stoker_runtime::ids::jitter();
    let event = due_event(&stored.job, work.asked_at, &tables.policy().lease, jitter);
    let Some(event) = event else {
        // The column disagrees with the rule, after a change of the policy or of the job itself:
        // set it right.
        tables.save(&stored)?;
        return Ok(false);
    };
    let redispatch = event == Event::RedispatchDue;
    if redispatch && work.intact.contains(&stored.names(tables.lanes())?.lane) {
        let again = look_again_at(&stored.job, tables.now(), &tables.policy().lease);
        tables.put_off(job, again)?;
        return Ok(false);
    }
    if let Err(refusal) = stored.transit(tables, &event)? {
        return Err(StoreError::Corrupt(format!("a due event was refused: {refusal}")));
    }
    if redispatch {
        tables.put_into_outbox(job, stored.job.dispatch_seq)?;
    }
    Ok(true)
}

/// Shortens the leases of a worker whose stream broke.
pub(in crate::store) fn disconnect(
    tables: &mut dyn Tables,
    worker: WorkerId,
) -> Result<(), StoreError> {
    for job in tables.leased(Some(worker))? {
        let Some(mut stored) = tables.job(job)? else { continue };
        // A refusal means that the lease ends sooner than the grace: nothing to shorten.
        let _ = stored.transit(tables, &Event::WorkerDisconnected { worker })?;
    }
    Ok(())
}

/// Gives each lease a full life from now on; answers how many there are.
pub(in crate::store) fn grant_amnesty(tables: &mut dyn Tables) -> Result<u64, StoreError> {
    let jobs = tables.leased(None)?;
    for job in &jobs {
        let Some(mut stored) = tables.job(*job)? else { continue };
        if let State::Leased(lease) = &mut stored.job.state {
            lease.grant_amnesty(tables.now(), &tables.policy().lease);
            tables.save(&stored)?;
        }
    }
    Ok(jobs.len() as u64)
}
