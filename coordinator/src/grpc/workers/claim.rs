//! Claims: the right to run what a delivery points to.

use std::time::Duration;

use stoker_core::ids::JobId;
use stoker_core::request::Task;
use stoker_core::time::Timestamp;
use stoker_proto::convert;
use stoker_proto::status::{self, Reason};
use stoker_proto::v1;
use stoker_proto::v1::claim_outcome::Outcome;
use stoker_runtime::{crash, ids};
use tonic::Status;

use crate::context::Context;
use crate::grpc::errors;
use crate::registry::Heard;
use crate::store::{BEGUN_ITEM, Claim, ClaimOutcome, Grant};

/// Inputs in one answer, before the last that is granted; far below the limit of a message.
const MAX_INPUT_BYTES: usize = 16 << 20;

pub(super) async fn claim(
    context: &Context,
    request: v1::ClaimRequest,
) -> Result<v1::ClaimResponse, Status> {
    let worker = super::worker(&request.worker_id)?;
    let claims = convert::claims(&request.claims, "claims")
        .map_err(|violations| status::invalid(&violations))?;
    if context.registry.heard(worker, None) == Heard::Unknown {
        return Err(status::failed_precondition(
            Reason::WorkerNotRegistered,
            &format!("worker {worker}"),
            "it is not registered, or its stream has ended",
            "register (again) first, then claim with the same claim ids",
        ));
    }
    if context.registry.is_sent_away(worker) {
        // The worker has its deliveries still, and gives them back when it goes.
        let deferred = || Some(Outcome::Deferred(v1::ClaimDeferred {}));
        let outcomes = claims.iter().map(|_| v1::ClaimOutcome { outcome: deferred() }).collect();
        return Ok(v1::ClaimResponse { outcomes });
    }
    let ids: Vec<_> = claims.iter().map(|claim| claim.job).collect();
    let claims = claims
        .into_iter()
        .map(|claim| Claim {
            job: claim.job,
            seq: claim.seq,
            claim: claim.claim,
            token: ids::lease_token(),
        })
        .collect();
    let claim = crash::around("claim", context.store.claim(worker, claims, MAX_INPUT_BYTES));
    let outcomes = claim.await.map_err(errors::store)?;
    if outcomes.iter().any(|outcome| matches!(outcome, ClaimOutcome::Granted(_))) {
        context.registry.granted(worker);
    }
    let now = context.now();
    let mut answers = Vec::with_capacity(ids.len());
    for (job, outcome) in ids.into_iter().zip(outcomes) {
        let outcome = match outcome {
            ClaimOutcome::Granted(grant) => answer_granted(context, job, &grant, now).await,
            ClaimOutcome::Refused(refusal) => refused(convert::claim_refusal(refusal)),
            ClaimOutcome::Unknown => refused(v1::ClaimRefusal::Unknown),
            ClaimOutcome::Deferred => Outcome::Deferred(v1::ClaimDeferred {}),
        };
        answers.push(v1::ClaimOutcome { outcome: Some(outcome) });
    }
    Ok(v1::ClaimResponse { outcomes: answers })
}

async fn answer_granted(context: &Context, job: JobId, grant: &Grant, now: Timestamp) -> Outcome {
    match granted(grant, grant.start_by.since(now)) {
        Ok(mut granted) => {
            granted.begun = begun(context, job, &granted).await;
            Outcome::Granted(Box::new(granted))
        }
        Err(error) => {
            // The others must not suffer. Its lease runs out until it is dead-lettered.
            tracing::error!(
                %job,
                error = &error as &dyn std::error::Error,
                "the input of a job cannot be read; it is withheld from workers"
            );
            refused(v1::ClaimRefusal::Unknown)
        }
    }
}

/// What an earlier attempt has begun. Without it, or when it cannot be read, the texts begin anew.
async fn begun(context: &Context, job: JobId, grant: &v1::Grant) -> Option<v1::BegunTexts> {
    let (task, _) = grant.input.as_ref().and_then(convert::input_items)?;
    if task != Task::TextGeneration {
        return None;
    }
    match context.store.results(job, BEGUN_ITEM, 1).await {
        Ok(parts) => convert::decode_begun(&parts.first()?.data, grant.first_item),
        Err(error) => {
            tracing::warn!(%job, %error, "what was begun of a job cannot be read");
            None
        }
    }
}

fn granted(grant: &Grant, slack: Duration) -> Result<v1::Grant, convert::DecodeInputError> {
    let input = convert::decode_input(&grant.input)?;
    Ok(v1::Grant {
        attempt: grant.attempt.number(),
        token: grant.token.as_bytes().to_vec(),
        model: grant.model.to_string(),
        input: Some(input),
        first_item: grant.first_item,
        run_alone: grant.run_alone,
        slack: Some(convert::wire_duration(slack)),
        trace: grant.trace.to_pairs().into_iter().collect(),
        begun: None,
    })
}

fn refused(refusal: v1::ClaimRefusal) -> Outcome {
    Outcome::Refused(refusal.into())
}
