//! Granting leases.

use bytes::Bytes;
use rusqlite::{OptionalExtension as _, params};
use stoker_core::ids::{JobId, WorkerId};
use stoker_core::job::{AttemptOutcome, ClaimAnswer, Event, answer_claim};

use crate::store::{Claim, ClaimOutcome, Grant, StoreError};

use super::rows::StoredJob;
use super::writer::Write;

/// Answers each claim; stops granting when the inputs granted so far reach `max_bytes`.
pub(super) fn claim(
    write: &mut Write<'_>,
    worker: WorkerId,
    claims: &[Claim],
    max_bytes: usize,
) -> Result<Vec<ClaimOutcome>, StoreError> {
    let mut bytes = 0;
    claims
        .iter()
        .map(|claim| {
            if bytes >= max_bytes {
                return Ok(ClaimOutcome::Deferred);
            }
            let outcome = claim_one(write, worker, claim)?;
            if let ClaimOutcome::Granted(grant) = &outcome {
                bytes += grant.input.len();
            }
            Ok(outcome)
        })
        .collect()
}

fn claim_one(
    write: &mut Write<'_>,
    worker: WorkerId,
    claim: &Claim,
) -> Result<ClaimOutcome, StoreError> {
    let Some(mut stored) = StoredJob::load(write.db, claim.job)? else {
        return Ok(ClaimOutcome::Unknown);
    };
    match answer_claim(&stored.job, claim.seq, claim.claim) {
        ClaimAnswer::Refuse(reason) => return Ok(ClaimOutcome::Refused(reason)),
        ClaimAnswer::GrantedBefore => {}
        ClaimAnswer::Grant => {
            let event =
                Event::Claimed { seq: claim.seq, claim: claim.claim, worker, token: claim.token };
            if let Err(refusal) = stored.transit(write, &event)? {
                return Err(StoreError::Corrupt(format!("a claim was answered twice: {refusal}")));
            }
            begin_attempt(write, &stored, worker)?;
        }
    }
    grant(write, &stored)
}

fn grant(write: &Write<'_>, stored: &StoredJob) -> Result<ClaimOutcome, StoreError> {
    let job = &stored.job;
    let lease = job.lease().ok_or_else(|| {
        StoreError::Corrupt(format!("job {} was granted without a lease", job.id))
    })?;
    let input = input(write, job.id)?
        .ok_or_else(|| StoreError::Corrupt(format!("job {} has no input", job.id)))?;
    Ok(ClaimOutcome::Granted(Box::new(Grant {
        attempt: lease.attempt,
        token: lease.token,
        model: stored.names(write.lanes)?.lane.model.clone(),
        input,
        first_item: job.items_done,
        run_alone: job.run_alone,
        start_by: stored.start_by,
        trace: stored.trace(),
    })))
}

/// A job's encoded input; `None` when retention removed it.
pub(super) fn input(write: &Write<'_>, job: JobId) -> Result<Option<Bytes>, StoreError> {
    write
        .db
        .prepare_cached("SELECT input FROM inputs WHERE job = ?")
        .and_then(|mut statement| {
            statement.query_row([job.as_bytes()], |row| row.get::<_, Vec<u8>>(0)).optional()
        })
        .map(|input| input.map(Bytes::from))
        .map_err(StoreError::database("reading an input"))
}

fn begin_attempt(
    write: &Write<'_>,
    stored: &StoredJob,
    worker: WorkerId,
) -> Result<(), StoreError> {
    let Some(lease) = stored.job.lease() else { return Ok(()) };
    write
        .db
        .prepare_cached(
            "INSERT INTO attempts (job, attempt, worker, token, started_at, outcome, code, message)
             VALUES (?, ?, ?, ?, ?, ?, '', '')",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                stored.job.id.as_bytes(),
                lease.attempt.number(),
                worker.as_bytes(),
                lease.token.as_bytes(),
                write.now.as_unix_millis(),
                AttemptOutcome::Running.number(),
            ])
        })
        .map(drop)
        .map_err(StoreError::database("writing an attempt"))
}
