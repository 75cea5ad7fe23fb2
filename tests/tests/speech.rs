//! Recordings written down by real processes from end to end, good ones and bad ones.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use serde_json::Value;
use stoker_proto::v1::job_input::Task;
use stoker_proto::v1::result_part::Output;
use stoker_proto::v1::{
    JobInput, JobSpec, JobState, ResultsRequest, SpeechToTextInput, SubmitRequest, Transcript,
};
use stoker_tests::fleet::{Fleet, Options};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/engine/golden/tiny-whisper")
}

fn recording(name: &str) -> anyhow::Result<Vec<u8>> {
    Ok(std::fs::read(golden().join(name))?)
}

fn fleet_file() -> String {
    format!(
        r#"
fleet = "speech"
[classes.standard]
max-wait = "60s"
[models.ear]
task = "speech-to-text"
source = "file:{}"
[pools.default]
models = ["ear"]
[retry]
base-delay = "50ms"
"#,
        golden().join("english").display()
    )
}

async fn submit(fleet: &Fleet, recordings: Vec<Vec<u8>>) -> anyhow::Result<String> {
    let recordings = recordings.into_iter().map(Into::into).collect();
    let input = SpeechToTextInput { recordings, options: None };
    let job = JobSpec {
        model: "ear".to_owned(),
        input: Some(JobInput { task: Some(Task::SpeechToText(input)) }),
        ..JobSpec::default()
    };
    let request = SubmitRequest { job: Some(job) };
    Ok(fleet.jobs().await?.submit(request).await?.into_inner().job_id)
}

async fn transcripts(fleet: &Fleet, id: &str) -> anyhow::Result<Vec<Transcript>> {
    fleet.wait_for(id, &[JobState::Succeeded]).await?;
    let request = ResultsRequest { job_id: id.to_owned(), first_item: 0 };
    let mut stream = fleet.jobs().await?.results(request).await?.into_inner();
    let mut found = Vec::new();
    while let Some(message) = stream.message().await? {
        match message.part.and_then(|part| part.output) {
            Some(Output::Transcripts(part)) => found.extend(part.transcripts),
            other => bail!("a job over recordings answered {other:?}"),
        }
    }
    Ok(found)
}

/// The times and texts that the reference has of a recording.
fn expected(name: &str) -> anyhow::Result<Vec<(u64, u64, String)>> {
    let json: Value =
        serde_json::from_slice(&std::fs::read(golden().join("english/expected.json"))?)?;
    let transcripts = json["transcripts"].as_array().into_iter().flatten();
    let mut of_name = transcripts.filter(|one| one["recording"] == name);
    let Some(found) = of_name.next() else { bail!("no transcript of {name}") };
    let segment = |one: &Value| {
        let text = one["text"].as_str().unwrap_or_default().trim().to_owned();
        (one["start"].as_u64().unwrap_or(0), one["end"].as_u64().unwrap_or(0), text)
    };
    Ok(found["segments"].as_array().into_iter().flatten().map(segment).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn recordings_are_written_down_and_a_bad_one_fails_its_own_job_only() -> anyhow::Result<()> {
    let fleet = fleet_file();
    let mut fleet = Fleet::start(Options { fleet, ..Options::echo("speech", "0ms") }).await?;
    fleet.add_worker()?;
    let long = recording("long.wav")?;
    let cut = long[..long.len() / 2].to_vec();
    let good = submit(&fleet, vec![long.clone(), recording("short.flac")?]).await?;
    let bad = submit(&fleet, vec![long.clone(), cut]).await?;
    let other = submit(&fleet, vec![recording("short.wav")?, long]).await?;

    let found = transcripts(&fleet, &good).await?;
    ensure!(found.len() == 2, "{found:?}");
    for (transcript, name) in found.iter().zip(["long", "short"]) {
        let segments = transcript.segments.iter().map(|segment| {
            (u64::from(segment.start_ms), u64::from(segment.end_ms), segment.text.clone())
        });
        let segments: Vec<_> = segments.collect();
        ensure!(segments == expected(name)?, "{name}: {segments:?}");
        ensure!(transcript.language == "en", "{transcript:?}");
    }
    let failed = fleet.wait_for(&bad, &[JobState::Failed]).await?;
    let Some(failure) = failed.failure else { bail!("{failed:?}") };
    ensure!(failure.code == "INVALID_INPUT", "{failure:?}");
    let says = "item 1: invalid input: the recording cannot be used: it is cut off";
    ensure!(failure.message.contains(says), "{failure:?}");
    let others = transcripts(&fleet, &other).await?;
    ensure!(others.len() == 2 && others[1] == found[0], "{others:?}");
    Ok(())
}
