//! CLIP models see images as transformers and torch do on the same weights, alone and together, and compare them
//! with labels as these do; images that are none, and models that are none, are refused by name.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use stoker_core::image::ImageLimits;
use stoker_engine::{EngineDevice, ImageEncoder, ImageOptions, ImageTask, LoadError, Precision};
use stoker_engine_api::{
    Engine, ImageInput, ItemError, ItemInput, ItemOutput, Prepared as _, Question, TaskKind,
    contract,
};
use tempfile::TempDir;

const MODELS: [&str; 3] = ["openai", "laion", "squeezed"];

#[derive(Deserialize)]
struct Golden {
    pictures: Vec<Picture>,
}

#[derive(Deserialize)]
struct Picture {
    file: String,
    features: Vec<f32>,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    labels: Vec<String>,
    template: String,
    scores: Vec<f32>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny-clip")
}

fn golden(model: &str) -> Vec<Picture> {
    let json = fs::read(root().join(model).join("expected.json")).unwrap();
    serde_json::from_slice::<Golden>(&json).unwrap().pictures
}

fn load(directory: &Path, task: ImageTask) -> Result<ImageEncoder, LoadError> {
    ImageEncoder::load(&ImageOptions {
        task,
        model: "tiny".to_owned(),
        directory: directory.to_owned(),
        digest: None,
        device: EngineDevice::Cpu,
        precision: Precision::F32,
        lanes: None,
        max_batch_tokens: None,
        limits: ImageLimits::default(),
    })
}

fn file(name: &str) -> Vec<u8> {
    fs::read(root().join("images").join(name)).unwrap()
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

#[test]
fn embeddings_equal_the_reference_alone_and_together() {
    for model in MODELS {
        let engine = load(&root().join(model), ImageTask::Embedding).unwrap();
        let golden = golden(model);
        let prepare = |picture: &Picture| engine.prepare(plain(file(&picture.file))).unwrap();
        let prepared: Vec<_> = golden.iter().map(prepare).collect();
        for (picture, prepared) in golden.iter().zip(&prepared) {
            let alone = engine.run(&[prepared]).unwrap();
            check(vector(&alone[0]), &picture.features, &picture.file, model);
        }
        let together = engine.run(&prepared.iter().collect::<Vec<_>>()).unwrap();
        for (picture, output) in golden.iter().zip(&together) {
            check(vector(output), &picture.features, &picture.file, model);
        }
    }
}

#[test]
fn scores_of_labels_equal_the_reference_in_batches_of_different_questions() {
    for model in MODELS {
        let engine = load(&root().join(model), ImageTask::Classification).unwrap();
        let golden = golden(model);
        let cases: Vec<(&Picture, &Answer)> = golden
            .iter()
            .flat_map(|picture| picture.answers.iter().map(move |answer| (picture, answer)))
            .collect();
        // Scores that say nothing would be equal whatever the network does.
        let decided = cases
            .iter()
            .filter(|(_, answer)| answer.scores.iter().any(|s| (0.6..0.99).contains(s)));
        assert!(decided.count() > 5, "{model}");
        let prepare = |(picture, answer): &(&Picture, &Answer)| {
            let input = asking(file(&picture.file), &answer.labels, &answer.template);
            engine.prepare(input).unwrap()
        };
        let prepared: Vec<_> = cases.iter().map(prepare).collect();
        let outputs = engine.run(&prepared.iter().collect::<Vec<_>>()).unwrap();
        for ((picture, answer), output) in cases.iter().zip(&outputs) {
            check(scores(output), &answer.scores, &picture.file, model);
        }
    }
}

#[test]
fn an_engine_says_what_it_takes_and_makes() {
    let engine = load(&root().join("openai"), ImageTask::Embedding).unwrap();
    let info = engine.info();
    assert_eq!((info.task, info.output_dimensions), (TaskKind::ImageEmbedding, Some(12)));
    assert_eq!((info.max_tokens, &info.labels), (17, &None));
    assert_eq!(engine.prepare(plain(file("wide.png"))).unwrap().cost(), 17);
    let engine = load(&root().join("openai"), ImageTask::Classification).unwrap();
    let info = engine.info();
    assert_eq!((info.task, info.output_dimensions), (TaskKind::ImageClassification, None));
    assert!(info.labels.as_ref().is_some_and(|labels| labels.exclusive && labels.names.is_empty()));
}

#[test]
fn they_keep_the_contract_of_engines() {
    let files = ["wide.png", "tall.png", "photo.jpg", "moving.gif", "lossless.webp"];
    for model in MODELS {
        let folder = root().join(model);
        let embedding = load(&folder, ImageTask::Embedding).unwrap();
        contract::check_with(embedding, &files.map(|name| plain(file(name))));
        let labels = ["cat", "dog", "sea"].map(str::to_owned);
        let classification = load(&folder, ImageTask::Classification).unwrap();
        contract::check_with(
            classification,
            &files.map(|name| asking(file(name), &labels, "a {}")),
        );
    }
}

#[test]
fn what_cannot_be_looked_at_is_refused_and_says_why() {
    let engine = load(&root().join("openai"), ImageTask::Classification).unwrap();
    let labels = ["cat", "dog"].map(str::to_owned);
    let refusal = |input| match engine.prepare(input) {
        Ok(_) => panic!("it was prepared"),
        Err(ItemError::Invalid { message } | ItemError::WrongKind { got: message, .. }) => message,
        Err(other) => panic!("{other}"),
    };
    let cut = file("photo.jpg")[..600].to_vec();
    let long = ["a label of more words than the network of texts has places for ".repeat(3)];
    for (input, part) in [
        (asking(b"a text".to_vec(), &labels, "a {}"), "not an image"),
        (asking(cut, &labels, "a {}"), "cut off"),
        (asking(Vec::new(), &labels, "a {}"), "is empty"),
        (asking(file("gray.png"), &[], "a {}"), "no labels"),
        (asking(file("gray.png"), &labels, "a"), "the template"),
        (asking(file("gray.png"), &long, "a {}"), "longer than the model reads"),
        (plain(file("gray.png")), "has no labels"),
        (ItemInput::Text("a".to_owned()), "text"),
    ] {
        let message = refusal(input);
        assert!(message.contains(part), "{part}: {message}");
    }
    // It goes on with what is good.
    let good = engine.prepare(asking(file("gray.png"), &labels, "a {}")).unwrap();
    assert_eq!(engine.run(&[&good]).unwrap().len(), 1);
}

/// A copy of a model, for breaking it.
fn copy(name: &str) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(root().join(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

fn refuse(file: &str, what: &str, change: impl FnOnce(&Path)) {
    let folder = copy("openai");
    change(folder.path());
    let Err(error) = load(folder.path(), ImageTask::Classification) else {
        panic!("loaded in spite of {what}")
    };
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

#[test]
fn models_that_would_answer_something_else_are_refused() {
    for name in ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"] {
        refuse(name, "is missing", |folder| fs::remove_file(folder.join(name)).unwrap());
    }
    refuse("config.json", "model_type is `siglip`", |folder| {
        set(folder, "config.json", |config| config["model_type"] = json!("siglip"));
    });
    refuse("preprocessor_config.json", "but image_size is 32", |folder| {
        set(folder, "preprocessor_config.json", |config| config["crop_size"] = json!(31));
    });
    refuse("preprocessor_config.json", "resample is 0", |folder| {
        set(folder, "preprocessor_config.json", |config| config["resample"] = json!(0));
    });
}

#[test]
fn weights_that_do_not_fit_the_configuration_are_refused() {
    let shape =
        "tensor vision_model.encoder.layers.0.mlp.fc1.weight has shape [40, 24], expected [48, 24]";
    refuse("model.safetensors", shape, |folder| {
        set(folder, "config.json", |config| {
            config["vision_config"]["intermediate_size"] = json!(48);
        });
    });
    refuse(
        "model.safetensors",
        "text_projection.weight has shape [12, 16], expected [13, 16]",
        |folder| {
            set(folder, "config.json", |config| config["projection_dim"] = json!(13));
        },
    );
    refuse("model.safetensors", "encoder.layers.2.", |folder| {
        set(folder, "config.json", |config| {
            config["vision_config"]["num_hidden_layers"] = json!(3);
        });
    });
}
