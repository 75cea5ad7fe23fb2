//! Those who read what jobs have answered, while the system is under fire.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use stoker_proto::v1::result_part::Output;
use stoker_proto::v1::{GetRequest, Job, JobState, ResultsRequest};
use tokio::time::{sleep, timeout};

use super::{CALL_LIMIT, History, Jobs, PAUSE, Shared, connect};
use crate::chaos::check;
use crate::chaos::verdict::{self, Findings};

const VERIFY_PAUSE: Duration = Duration::from_millis(500);

/// Reads results at random, again and again: they must never change.
pub(super) async fn read(address: String, shared: Arc<Shared>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut jobs = None;
    while !shared.done.load(Ordering::Relaxed) {
        sleep(PAUSE).await;
        if jobs.is_none() {
            jobs = connect(&address).await;
        }
        let Some(client) = &jobs else { continue };
        let Some(id) = shared.history().any(&mut random) else { continue };
        match timeout(CALL_LIMIT, result_so_far(client, &id)).await {
            Ok(Ok(Some(texts))) => note(&mut shared.history(), id, texts),
            Ok(Ok(None)) => {}
            Ok(Err(_)) | Err(_) => jobs = None,
        }
    }
}

/// Checks each job as soon as it has ended.
pub(super) async fn verify(address: String, shared: Arc<Shared>) {
    let mut jobs = None;
    while !shared.done.load(Ordering::Relaxed) {
        sleep(VERIFY_PAUSE).await;
        if jobs.is_none() {
            jobs = connect(&address).await;
        }
        let Some(client) = &jobs else { continue };
        let open: Vec<String> = shared.history().accepted.keys().cloned().collect();
        for id in open {
            match timeout(CALL_LIMIT, verify_one(client, &id, &shared)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if is_refusal(&error) => {
                    let mut history = shared.history();
                    history.accepted.remove(&id);
                    history.findings.add("I1", format!("{id} cannot be checked: {error:#}"));
                    history.verified.insert(id);
                }
                Ok(Err(_)) | Err(_) => {
                    jobs = None;
                    break;
                }
            }
        }
    }
}

/// Whether asking again is of no use.
fn is_refusal(error: &anyhow::Error) -> bool {
    let status = error.downcast_ref::<tonic::Status>();
    status.is_some_and(|status| !stoker_proto::status::is_retryable(status))
}

async fn verify_one(client: &Jobs, id: &str, shared: &Shared) -> anyhow::Result<()> {
    let job = get(client, id).await?;
    if !verdict::is_terminal(job.state()) {
        return Ok(());
    }
    let (expected, read) = {
        let history = shared.history();
        (history.accepted.get(id).cloned(), history.read.get(id).cloned())
    };
    let Some(expected) = expected else { return Ok(()) };
    let stored = check::stored(client, &job).await?;
    let mut findings = Findings::default();
    verdict::one_job(&job, &expected, stored.as_deref(), read.as_deref(), &mut findings);
    let mut history = shared.history();
    history.accepted.remove(id);
    history.read.remove(id);
    if let Some(told) = history.ended.remove(id) {
        verdict::same_end(&told, &job, &mut findings);
    }
    history.verified.insert(id.to_owned());
    history.findings.extend(findings);
    Ok(())
}

fn note(history: &mut History, id: String, texts: Vec<String>) {
    match history.read.get(&id) {
        Some(before) if *before != texts => history.changed.push(id),
        Some(_) => {}
        None => {
            history.read.insert(id, texts);
        }
    }
}

async fn get(jobs: &Jobs, id: &str) -> anyhow::Result<Job> {
    let request = GetRequest { job_id: id.to_owned() };
    jobs.clone().get(request).await?.into_inner().job.context("an answer without a job")
}

/// The result of a job; `None` while it has none.
async fn result_so_far(jobs: &Jobs, id: &str) -> anyhow::Result<Option<Vec<String>>> {
    if get(jobs, id).await?.state() != JobState::Succeeded {
        return Ok(None);
    }
    results(jobs, id).await.map(Some)
}

/// The result of a job that has one.
pub(in crate::chaos) async fn results(jobs: &Jobs, id: &str) -> anyhow::Result<Vec<String>> {
    let request = ResultsRequest { job_id: id.to_owned(), first_item: 0 };
    let mut stream = jobs.clone().results(request).await?.into_inner();
    let mut texts = Vec::new();
    while let Some(message) = stream.message().await? {
        if let Some(Output::Texts(part)) = message.part.and_then(|part| part.output) {
            texts.extend(part.texts);
        }
    }
    Ok(texts)
}
