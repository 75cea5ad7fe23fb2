//! Long texts whose workers and engines are killed while they are generated: real processes from end to end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use serde_json::Value;
use stoker_core::told::{Heard, Stretch, ToldText};
use stoker_proto::v1::job_input::Task;
use stoker_proto::v1::job_service_client::JobServiceClient;
use stoker_proto::v1::result_part::Output;
use stoker_proto::v1::{
    CancelRequest, Generation, GenerationOptions, JobInput, JobSpec, JobState, Prompt,
    ResultsRequest, SubmitRequest, TextGenerationInput, WatchRequest, prompt,
};
use stoker_runtime::tasks::Tasks;
use stoker_tests::fleet::{Fleet, Options, PATIENCE};
use stoker_tests::{poll, programs};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

type Jobs = JobServiceClient<Channel>;

/// Enough that a small model takes some seconds for it.
const TOKENS: u32 = 6_000;

/// A worker says what it tells the coordinator.
const DEBUG: [(&str, &str); 1] = [("STOKER_LOG", "debug")];

/// Two of them are generated at the same time.
const PROMPTS: [&str; 2] = ["The quick brown fox", "In 1815 there were"];

/// A small model with random weights that takes long texts, and is never done by itself.
fn endless_model(folder: &Path) -> anyhow::Result<PathBuf> {
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/engine/golden/tiny-decoders/llama");
    let model = folder.join("endless");
    std::fs::create_dir_all(&model)?;
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(source.join(name), model.join(name))?;
    }
    let path = model.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    config["max_position_embeddings"] = 16_384.into();
    config["eos_token_id"] = Value::Null;
    std::fs::write(path, config.to_string())?;
    Ok(model)
}

fn fleet_file(model: &Path) -> String {
    format!(
        r#"
fleet = "generation"
[classes.standard]
max-wait = "60s"
[models.endless]
task = "text-generation"
source = "file:{}"
[pools.default]
models = ["endless"]
[lease]
ttl = "6s"
heartbeat = "1s"
disconnect-grace = "500ms"
cancel-grace = "2s"
redispatch-after = "3s"
[retry]
base-delay = "50ms"
"#,
        model.display()
    )
}

fn job() -> JobSpec {
    let prompt = |text: &str| Prompt { prompt: Some(prompt::Prompt::Text(text.to_owned())) };
    let options = GenerationOptions {
        max_tokens: TOKENS,
        temperature: 0.7,
        seed: Some(7),
        ..GenerationOptions::default()
    };
    let input = TextGenerationInput { prompts: PROMPTS.map(prompt).into(), options: Some(options) };
    JobSpec {
        model: "endless".to_owned(),
        input: Some(JobInput { task: Some(Task::TextGeneration(input)) }),
        ..JobSpec::default()
    }
}

async fn submit(fleet: &Fleet) -> anyhow::Result<String> {
    let request = SubmitRequest { job: Some(job()) };
    Ok(fleet.jobs().await?.submit(request).await?.into_inner().job_id)
}

async fn generated(fleet: &Fleet, id: &str) -> anyhow::Result<Vec<Generation>> {
    fleet.wait_for(id, &[JobState::Succeeded]).await?;
    let request = ResultsRequest { job_id: id.to_owned(), first_item: 0 };
    let mut stream = fleet.jobs().await?.results(request).await?.into_inner();
    let mut texts = Vec::new();
    while let Some(message) = stream.message().await? {
        match message.part.and_then(|part| part.output) {
            Some(Output::Generations(part)) => texts.extend(part.generations),
            other => bail!("a job that generates answered {other:?}"),
        }
    }
    Ok(texts)
}

/// What somebody who read along was told.
#[derive(Debug, Default)]
struct Read {
    texts: BTreeMap<u32, ToldText>,
    /// Bytes while each attempt was under way.
    bytes: BTreeMap<u32, usize>,
}

/// Reads along until the job has ended.
async fn read_along(mut jobs: Jobs, id: &str) -> anyhow::Result<Read> {
    let request = WatchRequest { job_ids: vec![id.to_owned()], texts: true };
    let mut updates = jobs.watch(request).await?.into_inner();
    let mut read = Read::default();
    let mut attempt = 0;
    while let Some(update) = updates.message().await? {
        if let Some(job) = update.job {
            attempt = job.attempts;
        }
        for piece in update.texts.into_iter().flat_map(|news| news.pieces) {
            let text = read.texts.entry(piece.item).or_default();
            let bytes_before = usize::try_from(piece.bytes_before)?;
            let heard = text.hear(Stretch { bytes_before, text: &piece.text, ends: piece.ends });
            ensure!(heard == Heard::More, "{heard:?} by {piece:?} after {text:?}");
            *read.bytes.entry(attempt).or_default() += piece.text.len();
        }
    }
    Ok(read)
}

/// One field of the lines of a worker's log that say this of a job.
fn logged(log: &str, message: &str, field: &str, id: &str) -> Vec<u64> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = lines.filter(|line| line["message"] == message && line["job"] == id);
    lines.filter_map(|line| line[field].as_u64()).collect()
}

/// Waits until more of the job's tokens are stored than this worker began with: a heartbeat goes out when the
/// one before is answered.
async fn more_is_stored(fleet: &mut Fleet, worker: usize, id: &str) -> anyhow::Result<()> {
    let worker = &*fleet.worker(worker);
    poll::until("tokens to be stored", PATIENCE, || async {
        let told = logged(&worker.log(), "telling what is begun", "tokens", id);
        let stored = told.iter().rev().nth(1);
        Ok(if stored > told.first() { Ok(()) } else { Err(worker.log_tail()) })
    })
    .await
}

/// Texts that the worker was handed begun, in each of its attempts at the job.
fn begun(fleet: &mut Fleet, worker: usize, id: &str) -> Vec<u64> {
    logged(&fleet.worker(worker).log(), "job granted", "begun", id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_whose_worker_and_engine_are_killed_goes_on_token_for_token() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let fleet = fleet_file(&endless_model(folder.path())?);
    let mut fleet = Fleet::start(Options { fleet, ..Options::echo("generation", "0ms") }).await?;
    let first = fleet.add_worker_with(&DEBUG)?;
    fleet.ready(1).await?;
    let undisturbed = submit(&fleet).await?;
    let expected = generated(&fleet, &undisturbed).await?;
    assert_eq!(expected.len(), PROMPTS.len());
    assert!(expected.iter().all(|text| text.generated_tokens == TOKENS), "{expected:?}");

    let interrupted = submit(&fleet).await?;
    let (jobs, id) = (fleet.jobs().await?, interrupted.clone());
    let tasks = Tasks::new(CancellationToken::new());
    let reader = tasks.spawn("reader", async move { read_along(jobs, &id).await });
    more_is_stored(&mut fleet, first, &interrupted).await?;
    fleet.worker(first).kill9();
    let second = fleet.add_worker_with(&DEBUG)?;
    more_is_stored(&mut fleet, second, &interrupted).await?;
    let engines = programs::children(fleet.worker(second).pid())?;
    ensure!(engines.len() == 1, "not one engine: {engines:?}");
    engines[0].kill9()?;
    assert_eq!(generated(&fleet, &interrupted).await?, expected);
    // Who read along was told while each attempt ran, nothing twice and nothing that was not to be, to the end.
    let read = tokio::time::timeout(PATIENCE, reader).await???;
    assert!((1..=3).all(|attempt| read.bytes.contains_key(&attempt)), "{:?}", read.bytes);
    let texts: Vec<&str> = read.texts.values().map(ToldText::text).collect();
    let whole: Vec<&str> = expected.iter().map(|text| text.text.as_str()).collect();
    assert_eq!(texts, whole);
    assert!(read.texts.values().all(ToldText::has_ended));
    // Both texts of it, both times.
    assert_eq!(begun(&mut fleet, second, &interrupted), [2, 2]);
    let job = fleet.job(&interrupted).await?;
    assert_eq!((job.attempts, job.lost_workers, job.crashes), (3, 1, 1), "{job:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_cancelled_ends_in_the_middle() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let fleet = fleet_file(&endless_model(folder.path())?);
    let mut fleet = Fleet::start(Options { fleet, ..Options::echo("cancelled", "0ms") }).await?;
    fleet.add_worker()?;
    fleet.ready(1).await?;
    let id = submit(&fleet).await?;
    fleet.wait_for(&id, &[JobState::Leased]).await?;
    let request = CancelRequest { job_id: id.clone() };
    fleet.jobs().await?.cancel(request).await?;
    fleet.wait_for(&id, &[JobState::Cancelled]).await?;
    // Its lanes are free for others at once.
    let next = submit(&fleet).await?;
    fleet.wait_for(&next, &[JobState::Succeeded]).await?;
    Ok(())
}
