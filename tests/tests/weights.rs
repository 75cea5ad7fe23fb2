//! Models from object storage, from the fleet file to the result: real processes and a real S3 server.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};
use stoker_proto::v1::job_input::Task;
use stoker_proto::v1::result_part::Output;
use stoker_proto::v1::{
    Generation, GenerationOptions, JobInput, JobSpec, JobState, Prompt, ResultsRequest,
    SubmitRequest, TextGenerationInput, prompt,
};
use stoker_test_ec2::MotoServer;
use stoker_tests::fleet::{Fleet, Options, PATIENCE};
use stoker_tests::{metrics, poll};

const FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

/// A small model with random weights.
fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/engine/golden/tiny-decoders/llama")
}

/// The same model twice: from a directory, and from object storage.
fn fleet_file(sha256: &str) -> String {
    format!(
        r#"
fleet = "weights"
[classes.standard]
max-wait = "60s"
[models.near]
task = "text-generation"
source = "file:{}"
[models.far]
task = "text-generation"
source = "s3://models/tiny/v1"
digest = "sha256:{sha256}"
[pools.default]
models = ["near", "far"]
"#,
        model().display()
    )
}

async fn generated(fleet: &Fleet, model: &str) -> anyhow::Result<Vec<Generation>> {
    let text = prompt::Prompt::Text("The quick brown fox".to_owned());
    let input = TextGenerationInput {
        prompts: vec![Prompt { prompt: Some(text) }],
        options: Some(GenerationOptions { max_tokens: 20, ..GenerationOptions::default() }),
    };
    let job = JobSpec {
        model: model.to_owned(),
        input: Some(JobInput { task: Some(Task::TextGeneration(input)) }),
        ..JobSpec::default()
    };
    let request = SubmitRequest { job: Some(job) };
    let id = fleet.jobs().await?.submit(request).await?.into_inner().job_id;
    fleet.wait_for(&id, &[JobState::Succeeded]).await?;
    let request = ResultsRequest { job_id: id, first_item: 0 };
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_runs_a_model_from_object_storage_and_does_without_it_once_it_has_it()
-> anyhow::Result<()> {
    let server = MotoServer::start()?;
    server.put("models", &[])?;
    let weights = std::fs::read(model().join("model.safetensors"))?;
    for name in FILES {
        server.put(&format!("models/tiny/v1/{name}"), &std::fs::read(model().join(name))?)?;
    }
    let cache = tempfile::tempdir()?;
    let mut environment = vec![("STOKER_WEIGHTS_CACHE", cache.path().display().to_string())];
    environment.extend(MotoServer::s3_variables(server.address()));
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let fleet = fleet_file(&hex(Sha256::digest(&weights).as_slice()));
    let mut fleet = Fleet::start(Options { fleet, ..Options::echo("weights", "0ms") }).await?;
    let first = fleet.add_worker_with(&environment)?;
    fleet.ready(1).await?;
    let expected = generated(&fleet, "near").await?;
    assert_eq!(generated(&fleet, "far").await?, expected);
    let metrics = metrics::of_worker(&fleet).await?;
    for phase in ["fetch", "engine", "read", "digest", "tokenizer", "device-copy", "warm-up"] {
        let name = format!("stoker_worker_cold_start_seconds{{model=\"far\",phase=\"{phase}\"}} ");
        let seconds = metrics.lines().find_map(|line| line.strip_prefix(&name));
        let seconds: f64 = seconds.with_context(|| format!("{phase} in {metrics}"))?.parse()?;
        ensure!(seconds >= 0.0 && seconds < PATIENCE.as_secs_f64(), "{phase}: {seconds}");
    }

    drop(server);
    fleet.worker(first).kill9();
    let second = fleet.add_worker_with(&environment)?;
    let worker = &*fleet.worker(second);
    poll::until("the copy in the cache to be used", PATIENCE, || async {
        let used = worker.log().contains("using the copy in the cache");
        Ok(if used { Ok(()) } else { Err(worker.log_tail()) })
    })
    .await
    .context("a worker without its bucket")?;
    assert_eq!(generated(&fleet, "far").await?, expected);
    Ok(())
}
