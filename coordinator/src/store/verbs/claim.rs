//! Granting leases.

use stoker_core::ids::WorkerId;
use stoker_core::job::{ClaimAnswer, Event, answer_claim};

use crate::store::job_row::StoredJob;
use crate::store::tables::{Begun, Tables};
use crate::store::{Claim, ClaimOutcome, Grant, StoreError};

/// Answers each claim; stops granting when the inputs granted so far reach `max_bytes`.
pub(in crate::store) fn claim(
    tables: &mut dyn Tables,
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
            let outcome = claim_one(tables, worker, claim)?;
            if let ClaimOutcome::Granted(grant) = &outcome {
                bytes += grant.input.len();
            }
            Ok(outcome)
        })
        .collect()
}

fn claim_one(
    tables: &mut dyn Tables,
    worker: WorkerId,
    claim: &Claim,
) -> Result<ClaimOutcome, StoreError> {
    let Some(mut stored) = tables.job(claim.job)? else {
        return Ok(ClaimOutcome::Unknown);
    };
    match answer_claim(&stored.job, claim.seq, claim.claim) {
        ClaimAnswer::Refuse(reason) => return Ok(ClaimOutcome::Refused(reason)),
        ClaimAnswer::GrantedBefore => {}
        ClaimAnswer::Grant => {
            let event =
                Event::Claimed { seq: claim.seq, claim: claim.claim, worker, token: claim.token };
            if let Err(refusal) = stored.transit(tables, &event)? {
                return Err(StoreError::Corrupt(format!("a claim was answered twice: {refusal}")));
            }
            if let Some(lease) = stored.job.lease() {
                let begun = Begun { attempt: lease.attempt, worker, token: lease.token };
                tables.begin_attempt(claim.job, begun)?;
            }
        }
    }
    grant(tables, &stored)
}

fn grant(tables: &mut dyn Tables, stored: &StoredJob) -> Result<ClaimOutcome, StoreError> {
    let job = &stored.job;
    let lease = job.lease().ok_or_else(|| {
        StoreError::Corrupt(format!("job {} was granted without a lease", job.id))
    })?;
    let input = tables
        .input(job.id)?
        .ok_or_else(|| StoreError::Corrupt(format!("job {} has no input", job.id)))?;
    Ok(ClaimOutcome::Granted(Box::new(Grant {
        attempt: lease.attempt,
        token: lease.token,
        model: stored.names(tables.lanes())?.lane.model.clone(),
        input,
        first_item: job.items_done,
        run_alone: job.run_alone,
        start_by: stored.start_by,
        trace: stored.trace(),
    })))
}
