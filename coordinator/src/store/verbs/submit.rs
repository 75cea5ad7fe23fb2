//! Accepting jobs.

use std::collections::BTreeMap;

use stoker_core::ids::JobId;
use stoker_core::job::{Effect, StateKind};

use crate::store::job_row::StoredJob;
use crate::store::lanes::{Delta, LaneNames};
use crate::store::tables::{KeyOwner, Tables};
use crate::store::{Change, NewJob, StoreError, Submitted};

/// Stores all jobs, or none when an idempotency key was used for something else.
pub(in crate::store) fn submit(
    tables: &mut dyn Tables,
    jobs: &[NewJob],
) -> Result<Vec<Submitted>, StoreError> {
    let answers = answers(tables, jobs)?;
    for (job, answer) in jobs.iter().zip(&answers) {
        if answer.created {
            if let Some(key) = &job.idempotency {
                let owner = KeyOwner { job: job.id, digest: key.request_digest };
                tables.take_key(&job.tenant, &key.key, owner)?;
            }
            insert(tables, job, None)?;
        }
    }
    Ok(answers)
}

/// Which jobs are new. Decided for all of them before the first is stored.
fn answers(tables: &mut dyn Tables, jobs: &[NewJob]) -> Result<Vec<Submitted>, StoreError> {
    let mut taken: BTreeMap<(&str, &str), KeyOwner> = BTreeMap::new();
    let mut answers = Vec::with_capacity(jobs.len());
    for (index, job) in jobs.iter().enumerate() {
        let new = Submitted { job: job.id, created: true };
        let Some(idempotency) = &job.idempotency else {
            answers.push(new);
            continue;
        };
        let (key, digest) = (idempotency.key.as_str(), idempotency.request_digest);
        let earlier = match taken.get(&(job.tenant.as_str(), key)) {
            Some(owner) => Some(*owner),
            None => tables.key_owner(&job.tenant, key)?,
        };
        answers.push(match earlier {
            None => {
                taken.insert((job.tenant.as_str(), key), KeyOwner { job: job.id, digest });
                new
            }
            Some(owner) if owner.digest == digest => Submitted { job: owner.job, created: false },
            Some(owner) => return Err(StoreError::KeyReused { index, job: owner.job }),
        });
    }
    Ok(answers)
}

/// Stores one job as queued.
pub(super) fn insert(
    tables: &mut dyn Tables,
    new: &NewJob,
    retry_of: Option<JobId>,
) -> Result<StoredJob, StoreError> {
    let names =
        LaneNames { tenant: new.tenant.clone(), class: new.class.clone(), lane: new.lane.clone() };
    let lane = tables.lane_id(&names)?;
    let stored = StoredJob::accepted(new, lane, retry_of)?;
    tables.insert_job(&stored, new.idempotency.as_ref(), &new.input)?;
    let change = Change {
        job: new.id,
        class: new.class.clone(),
        lane: new.lane.clone(),
        from: None,
        to: StateKind::Queued,
        effects: vec![Effect::WakeDispatcher],
        waited: None,
    };
    tables.changed(change, Delta { lane, from: None, to: Some(StateKind::Queued) });
    Ok(stored)
}
