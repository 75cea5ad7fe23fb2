//! Images through a whole fleet of real processes: seen as the reference sees them, and a damaged one fails its
//! own job only.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use stoker_core::request::Task;
use stoker_proto::v1::result_part::Output;
use stoker_proto::v1::{JobSpec, JobState, ResultPart, ResultsRequest, SubmitRequest};
use stoker_proto::{convert, v1};
use stoker_tests::fleet::{Fleet, Options};

/// A small CLIP model with random weights, and what transformers says of it.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/engine/golden/tiny-clip")
}

/// A small BLIP model with random weights.
fn golden_captions() -> PathBuf {
    golden().join("../tiny-blip/untied")
}

/// MTCNN, and a small `FaceNet` with random weights.
fn golden_faces() -> PathBuf {
    golden().join("../tiny-faces")
}

fn image(name: &str) -> anyhow::Result<Vec<u8>> {
    Ok(std::fs::read(golden().join("images").join(name))?)
}

/// What the reference says of one image.
fn expected(name: &str) -> anyhow::Result<Value> {
    let document: Value =
        serde_json::from_slice(&std::fs::read(golden().join("openai/expected.json"))?)?;
    let pictures = document["pictures"].as_array().context("there are no pictures")?;
    pictures.iter().find(|picture| picture["file"] == name).cloned().context("no such picture")
}

fn fleet_file() -> String {
    let model = |name: &str, task: &str, more: &str| {
        let source = golden().join("openai");
        let source = source.display();
        format!("[models.{name}]\ntask = \"{task}\"\nsource = \"file:{source}\"\n{more}\n")
    };
    let see = model("see", "image-embedding", "");
    let compare = model("compare", "image-classification", "labels = [\"cat\", \"dog\"]");
    let other = |name: &str, task: &str, folder: PathBuf| {
        let folder = folder.display();
        format!("[models.{name}]\ntask = \"{task}\"\nsource = \"file:{folder}\"\n")
    };
    let tell = other("tell", "image-captioning", golden_captions());
    let know = other("know", "face-embedding", golden_faces());
    format!(
        "fleet = \"images\"\n[classes.standard]\nmax-wait = \"60s\"\n{see}{compare}{tell}{know}\
         [pools.default]\nmodels = [\"see\", \"compare\", \"tell\", \"know\"]\n"
    )
}

fn job(model: &str, task: Task, images: Vec<Vec<u8>>) -> JobSpec {
    let images = images.into_iter().map(Into::into).collect();
    let input = Some(convert::input_of_files(task, images));
    JobSpec { model: model.to_owned(), input, ..JobSpec::default() }
}

async fn submit(fleet: &Fleet, job: JobSpec) -> anyhow::Result<String> {
    Ok(fleet.jobs().await?.submit(SubmitRequest { job: Some(job) }).await?.into_inner().job_id)
}

async fn result(fleet: &Fleet, id: &str) -> anyhow::Result<ResultPart> {
    fleet.wait_for(id, &[JobState::Succeeded]).await?;
    let request = ResultsRequest { job_id: id.to_owned(), first_item: 0 };
    let mut stream = fleet.jobs().await?.results(request).await?.into_inner();
    let part = stream.message().await?.and_then(|message| message.part);
    ensure!(stream.message().await?.is_none(), "a small result comes in one part");
    part.context("no result")
}

fn check(found: &[f32], expected: &Value, tolerance: f32) -> anyhow::Result<()> {
    let expected: Vec<f32> = serde_json::from_value(expected.clone())?;
    let close = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < tolerance);
    ensure!(close && found.len() == expected.len(), "{found:?} instead of {expected:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_seen_as_the_reference_sees_them_and_a_damaged_one_fails_alone()
-> anyhow::Result<()> {
    let options = Options { fleet: fleet_file(), ..Options::echo("images", "0ms") };
    let mut fleet = Fleet::start(options).await?;
    fleet.add_worker()?;
    fleet.ready(1).await?;
    let names = ["wide.png", "moving.gif", "lossless.webp"];
    let images = || names.iter().map(|name| image(name)).collect::<anyhow::Result<Vec<_>>>();
    let mut cut = image("wide.png")?;
    cut.truncate(cut.len() / 2);
    let damaged = vec![image("gray.png")?, cut];
    let damaged = submit(&fleet, job("see", Task::ImageEmbedding, damaged)).await?;
    let seen = submit(&fleet, job("see", Task::ImageEmbedding, images()?)).await?;
    let compared = submit(&fleet, job("compare", Task::ImageClassification, images()?)).await?;

    let Some(Output::Embeddings(vectors)) = result(&fleet, &seen).await?.output else {
        bail!("a job of images makes vectors")
    };
    let numbers: Vec<f32> = convert::numbers(&vectors.vectors).collect();
    for (name, found) in names.iter().zip(numbers.chunks(12)) {
        check(found, &expected(name)?["features"], 1e-5)?;
    }
    let Some(Output::Classifications(scores)) = result(&fleet, &compared).await?.output else {
        bail!("a job of images and labels makes scores")
    };
    ensure!(scores.labels == ["cat", "dog"] && scores.exclusive, "{scores:?}");
    let numbers: Vec<f32> = convert::numbers(&scores.scores).collect();
    for (name, found) in names.iter().zip(numbers.chunks(2)) {
        // The first question of the reference is the model's own.
        check(found, &expected(name)?["answers"][0]["scores"], 1e-5)?;
    }

    let job: v1::Job = fleet.wait_for(&damaged, &[JobState::Failed]).await?;
    let failure = job.failure.context("a failed job says why")?;
    ensure!(failure.code == "INVALID_INPUT", "{failure:?}");
    ensure!(failure.message.starts_with("item 1: "), "{failure:?}");
    faces_are_found(&fleet).await
}

/// As the reference finds them, with their vectors; on an image without any there are none.
async fn faces_are_found(fleet: &Fleet) -> anyhow::Result<()> {
    let photo = std::fs::read(golden_faces().join("images/astronaut.webp"))?;
    let mut cut = photo.clone();
    cut.truncate(photo.len() / 2);
    let damaged = job("know", Task::FaceEmbedding, vec![photo.clone(), cut]);
    let damaged = submit(fleet, damaged).await?;
    let images = vec![image("wide.png")?, photo];
    let found = submit(fleet, job("know", Task::FaceEmbedding, images)).await?;
    let Some(Output::Faces(faces)) = result(fleet, &found).await?.output else {
        bail!("a job of images makes faces")
    };
    ensure!(faces.images[0].faces.is_empty() && faces.dimensions == 32, "{faces:?}");
    let [face] = &faces.images[1].faces[..] else { bail!("there is one face: {faces:?}") };
    let document = std::fs::read(golden_faces().join("expected.json"))?;
    let document: Value = serde_json::from_slice(&document)?;
    // The reference's first picture.
    let expected = &document["looks"][0]["faces"][0];
    let numbers: Vec<f32> = convert::numbers(&face.vector).collect();
    check(&numbers, &expected["vector"], 1e-4)?;
    check(&[face.left, face.top, face.right, face.bottom], &expected["box"], 0.01)?;

    let job: v1::Job = fleet.wait_for(&damaged, &[JobState::Failed]).await?;
    let failure = job.failure.context("a failed job says why")?;
    ensure!(failure.message.starts_with("item 1: "), "{failure:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_captioned_as_the_reference_captions_them_and_a_damaged_one_fails_alone()
-> anyhow::Result<()> {
    let options = Options { fleet: fleet_file(), ..Options::echo("captions", "0ms") };
    let mut fleet = Fleet::start(options).await?;
    fleet.add_worker()?;
    fleet.ready(1).await?;
    let captioning = |images: Vec<Vec<u8>>| {
        let images = images.into_iter().map(Into::into).collect();
        let input =
            v1::ImageCaptioningInput { images, prompt: "a picture of".to_owned(), max_tokens: 12 };
        let input = Some(v1::JobInput { task: Some(v1::job_input::Task::ImageCaptioning(input)) });
        JobSpec { model: "tell".to_owned(), input, ..JobSpec::default() }
    };
    let names = ["wide.png", "moving.gif", "lossless.webp"];
    let images = names.iter().map(|name| image(name)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut cut = image("wide.png")?;
    cut.truncate(cut.len() / 2);
    let damaged = submit(&fleet, captioning(vec![image("gray.png")?, cut])).await?;
    let told = submit(&fleet, captioning(images)).await?;

    let Some(Output::Generations(captions)) = result(&fleet, &told).await?.output else {
        bail!("a job of images makes captions")
    };
    let document = std::fs::read(golden_captions().join("expected.json"))?;
    let document: Value = serde_json::from_slice(&document)?;
    let pictures = document["pictures"].as_array().context("there are no pictures")?;
    for (name, found) in names.iter().zip(&captions.generations) {
        let picture = pictures.iter().find(|picture| picture["file"] == *name);
        // The second prompt of the reference.
        let expected = &picture.context("no such picture")?["captions"][1];
        ensure!(found.text == expected["text"], "{name}: {found:?}");
        let tokens = expected["tokens"].as_array().map(Vec::len);
        ensure!(Some(usize::try_from(found.generated_tokens)?) == tokens, "{name}: {found:?}");
    }

    let job: v1::Job = fleet.wait_for(&damaged, &[JobState::Failed]).await?;
    let failure = job.failure.context("a failed job says why")?;
    ensure!(failure.code == "INVALID_INPUT", "{failure:?}");
    ensure!(failure.message.starts_with("item 1: "), "{failure:?}");
    Ok(())
}
