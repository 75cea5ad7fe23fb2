//! Sentences through a whole fleet: submitted, queued, claimed, batched, embedded, stored.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use serde_json::{Value, json};
use stoker_proto::v1::job_input::Task;
use stoker_proto::v1::{JobInput, JobSpec, JobState, SubmitBatchRequest, TextEmbeddingInput};

use crate::fleet::{Fleet, Options};

use super::sample::round;

const MODEL: &str = "mini";
const JOB_SENTENCES: usize = 500;
const ROUNDS: usize = 2;

/// Measures from the start of a worker process to the first stored result, and sentences per second
/// from the first submit to the last stored result: the best of two rounds.
///
/// # Errors
/// When a job does not succeed.
pub async fn run(model: &Path, corpus: &Path, lanes: u32) -> anyhow::Result<Value> {
    let sentences = sentences(corpus)?;
    let model = model.canonicalize().with_context(|| model.display().to_string())?;
    let fleet = format!(
        "fleet = \"bench-embedding\"\n[classes.standard]\nmax-wait = \"60s\"\n[models.{MODEL}]\n\
         task = \"text-embedding\"\nsource = \"file:{}\"\n[pools.default]\nmodels = [\"{MODEL}\"]\n",
        model.display()
    );
    let options = Options { fleet, slots: 4, lanes, ..Options::echo("bench-embedding", "0ms") };
    let mut fleet = Fleet::start(options).await?;

    let first = submit(&fleet, &sentences[..1]).await?;
    let began = Instant::now();
    fleet.add_worker()?;
    all_succeed(&fleet, &first).await?;
    let cold_start = began.elapsed();

    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let jobs = submit(&fleet, &sentences).await?;
        all_succeed(&fleet, &jobs).await?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    let count = f64::from(u32::try_from(sentences.len())?);
    Ok(json!({
        "sentences": sentences.len(),
        "lanes": lanes,
        "worker_start_to_first_result_seconds": round(cold_start.as_secs_f64(), 3),
        "sentences_per_second": round(count / best, 1),
    }))
}

/// A sentence on each line.
pub(super) fn sentences(corpus: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(corpus).with_context(|| corpus.display().to_string())?;
    Ok(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
}

async fn submit(fleet: &Fleet, sentences: &[String]) -> anyhow::Result<Vec<String>> {
    let job = |texts: &[String]| {
        let input = TextEmbeddingInput { texts: texts.to_vec(), prompt: String::new() };
        let input = Some(JobInput { task: Some(Task::TextEmbedding(input)) });
        JobSpec { model: MODEL.to_owned(), input, ..JobSpec::default() }
    };
    let jobs = sentences.chunks(JOB_SENTENCES).map(job).collect();
    let answer = fleet.jobs().await?.submit_batch(SubmitBatchRequest { jobs }).await?;
    Ok(answer.into_inner().jobs.into_iter().map(|job| job.job_id).collect())
}

async fn all_succeed(fleet: &Fleet, jobs: &[String]) -> anyhow::Result<()> {
    for job in jobs {
        let ended = [JobState::Succeeded, JobState::Failed];
        let job = fleet.wait_for(job, &ended).await?;
        anyhow::ensure!(job.state() == JobState::Succeeded, "{job:?}");
    }
    Ok(())
}
