//! Models of images see them as transformers and torch do on the same weights, alone and together; images that are none,
//! and models that are none, are refused by name.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod clip;
mod dino;
mod siglip;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use stoker_core::image::ImageLimits;
use stoker_engine::{ImageEncoder, ImageOptions, ImageTask, LoadError, ModelOptions};
use stoker_engine_api::{Engine as _, ImageInput, ItemInput, ItemOutput, Question};
use tempfile::TempDir;

#[derive(Deserialize)]
struct Golden {
    pictures: Vec<Picture>,
}

#[derive(Deserialize)]
struct Picture {
    file: String,
    features: Vec<f32>,
    #[serde(default)]
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    labels: Vec<String>,
    template: String,
    scores: Vec<f32>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

fn golden(model: &Path) -> Vec<Picture> {
    let json = fs::read(model.join("expected.json")).unwrap();
    serde_json::from_slice::<Golden>(&json).unwrap().pictures
}

fn load(directory: &Path, task: ImageTask) -> Result<ImageEncoder, LoadError> {
    ImageEncoder::load(&ImageOptions {
        task,
        model: ModelOptions::new("tiny", directory),
        max_batch_tokens: None,
        limits: ImageLimits::default(),
    })
}

fn file(name: &str) -> Vec<u8> {
    fs::read(folder("tiny-clip/images").join(name)).unwrap()
}

fn plain(file: Vec<u8>) -> ItemInput {
    ItemInput::Image(Box::new(ImageInput { file, question: None }))
}

fn asking(file: Vec<u8>, labels: &[String], template: &str) -> ItemInput {
    let question = Question { labels: labels.to_vec(), template: template.to_owned() };
    ItemInput::Image(Box::new(ImageInput { file, question: Some(Arc::new(question)) }))
}

/// Files that are decoded to the reference's pixels, to the last bit, give its numbers; of the others a color
/// may be off by a little, which counts more in so small a network.
fn tolerance(file: &str) -> f32 {
    if ["photo.jpg", "turned.jpg", "photo.webp"].contains(&file) { 2e-2 } else { 1e-5 }
}

fn check(found: &[f32], expected: &[f32], file: &str, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: {file}");
    for (found, expected) in found.iter().zip(expected) {
        let difference = (found - expected).abs();
        assert!(difference < tolerance(file), "{what}: {file}: {found} instead of {expected}");
    }
}

fn vector(output: &ItemOutput) -> &[f32] {
    match output {
        ItemOutput::Embedding(vector) => vector,
        other => panic!("not an embedding but {}", other.kind()),
    }
}

fn scores(output: &ItemOutput) -> &[f32] {
    match output {
        ItemOutput::Scores(scores) => &scores.scores,
        other => panic!("not scores but {}", other.kind()),
    }
}

/// Every picture becomes the reference's vector, alone and among all others.
fn check_vectors(model: &Path) {
    let what = model.display().to_string();
    let engine = load(model, ImageTask::Embedding).unwrap();
    let golden = golden(model);
    assert!(golden.len() >= 12, "{what}");
    let prepare = |picture: &Picture| engine.prepare(plain(file(&picture.file))).unwrap();
    let prepared: Vec<_> = golden.iter().map(prepare).collect();
    for (picture, prepared) in golden.iter().zip(&prepared) {
        let alone = engine.run(&[prepared]).unwrap();
        check(vector(&alone[0]), &picture.features, &picture.file, &what);
    }
    let together = engine.run(&prepared.iter().collect::<Vec<_>>()).unwrap();
    for (picture, output) in golden.iter().zip(&together) {
        check(vector(output), &picture.features, &picture.file, &what);
    }
}

/// Every picture has the reference's scores of every question, in batches of different questions.
fn check_scores(model: &Path) {
    let what = model.display().to_string();
    let engine = load(model, ImageTask::Classification).unwrap();
    let golden = golden(model);
    let cases: Vec<(&Picture, &Answer)> = golden
        .iter()
        .flat_map(|picture| picture.answers.iter().map(move |answer| (picture, answer)))
        .collect();
    // Scores that say nothing would be equal whatever the network does.
    let decided =
        cases.iter().filter(|(_, answer)| answer.scores.iter().any(|s| (0.6..0.99).contains(s)));
    assert!(decided.count() > 5, "{what}");
    let prepare = |(picture, answer): &(&Picture, &Answer)| {
        let input = asking(file(&picture.file), &answer.labels, &answer.template);
        engine.prepare(input).unwrap()
    };
    let prepared: Vec<_> = cases.iter().map(prepare).collect();
    let outputs = engine.run(&prepared.iter().collect::<Vec<_>>()).unwrap();
    for ((picture, answer), output) in cases.iter().zip(&outputs) {
        check(scores(output), &answer.scores, &picture.file, &what);
    }
}

/// A copy of a model, for breaking it.
fn copy(model: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// A model that was changed is not loaded, and the message names the file and what is wrong with it.
fn refuse(
    (model, task): (&Path, ImageTask),
    (file, what): (&str, &str),
    change: impl FnOnce(&Path),
) {
    let folder = copy(model);
    change(folder.path());
    let Err(error) = load(folder.path(), task) else { panic!("loaded in spite of {what}") };
    let message = error.to_string();
    let path = folder.path().join(file).display().to_string();
    assert!(message.contains(&path) && message.contains(what), "expected {what:?} in: {message}");
    assert!(!message.contains('\n') && !error.remedy().is_empty(), "{message}");
}

fn set(directory: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = directory.join(file);
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, config.to_string()).unwrap();
}
