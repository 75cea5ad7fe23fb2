//! Claims one by one over the wire, as a worker makes them, without an engine.

use std::time::Instant;

use anyhow::{Context, bail, ensure};
use stoker_proto::client;
use stoker_proto::v1::claim_outcome::Outcome;
use stoker_proto::v1::consume_request::Request;
use stoker_proto::v1::queue_service_client::QueueServiceClient;
use stoker_proto::v1::result_part::Output;
use stoker_proto::v1::worker_service_client::WorkerServiceClient;
use stoker_proto::v1::{
    Claim, ClaimRequest, CompleteRequest, Completion, ConsumeRequest, Fence, OpenConsumer,
    RegisterRequest, ResultPart, Settle, Texts,
};
use stoker_runtime::ids;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::fleet::Fleet;

use super::sample::Sample;

/// Takes and completes `jobs` echo jobs from the embedded queue; measures the claims.
///
/// # Errors
/// When a claim is not granted or a call fails.
pub async fn run(fleet: &Fleet, jobs: usize) -> anyhow::Result<Sample> {
    let channel = client::endpoint(&fleet.address())?.connect().await?;
    let mut workers = WorkerServiceClient::new(channel.clone());
    let worker_id = ids::worker_id().to_string();
    let registration = RegisterRequest {
        worker_id: worker_id.clone(),
        pool: "default".to_owned(),
        models: vec!["echo".to_owned()],
        slots: 8,
        ..RegisterRequest::default()
    };
    let _commands = workers.register(registration).await?;
    let (requests, outgoing) = mpsc::channel(16);
    let open = OpenConsumer { pool: "default".to_owned(), model: "echo".to_owned(), prefetch: 8 };
    requests.send(ConsumeRequest { request: Some(Request::Open(open)) }).await?;
    let mut deliveries =
        QueueServiceClient::new(channel).consume(ReceiverStream::new(outgoing)).await?.into_inner();

    let mut sample = Sample::new();
    while sample.count() < jobs as u64 {
        let delivery = deliveries.message().await?.context("the queue ended")?;
        let claim = Claim {
            job_id: delivery.job_id.clone(),
            dispatch_seq: delivery.dispatch_seq,
            claim_id: ids::claim_id().to_string(),
        };
        let request = ClaimRequest { worker_id: worker_id.clone(), claims: vec![claim] };
        let began = Instant::now();
        let answer = workers.claim(request).await?.into_inner();
        let outcome = answer.outcomes.into_iter().next().and_then(|outcome| outcome.outcome);
        let settle = Settle { tag: delivery.tag, ack: true };
        let settle = ConsumeRequest { request: Some(Request::Settle(settle)) };
        let grant = match outcome {
            Some(Outcome::Granted(grant)) => *grant,
            // Of a job that waited for long: its message was sent twice.
            Some(Outcome::Refused(_)) => {
                requests.send(settle).await?;
                continue;
            }
            other => bail!("a claim was answered {other:?}"),
        };
        sample.note(began);
        let texts = Texts { texts: vec!["x".to_owned()] };
        let part = ResultPart { first_item: 0, items: 1, output: Some(Output::Texts(texts)) };
        let fence = Fence { job_id: delivery.job_id, attempt: grant.attempt, token: grant.token };
        let completion = Completion { fence: Some(fence), parts: vec![part], busy: None };
        let request =
            CompleteRequest { worker_id: worker_id.clone(), completions: vec![completion] };
        let outcomes = workers.complete(request).await?.into_inner().outcomes;
        ensure!(outcomes == [1], "a completion was answered {outcomes:?}");
        requests.send(settle).await?;
    }
    Ok(sample)
}
