//! CLIP models see images as the reference does, and compare them with labels as it does.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use stoker_engine::ImageTask;
use stoker_engine_api::{Engine as _, ItemError, ItemInput, Prepared as _, TaskKind, contract};

use super::{asking, check_scores, check_vectors, file, folder, load, plain, set};

const MODELS: [&str; 3] = ["openai", "laion", "squeezed"];

fn root() -> PathBuf {
    folder("tiny-clip")
}

#[test]
fn embeddings_equal_the_reference_alone_and_together() {
    for model in MODELS {
        check_vectors(&root().join(model));
    }
}

#[test]
fn scores_of_labels_equal_the_reference_in_batches_of_different_questions() {
    for model in MODELS {
        check_scores(&root().join(model));
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

fn refuse(file: &str, what: &str, change: impl FnOnce(&Path)) {
    super::refuse((&root().join("openai"), ImageTask::Classification), (file, what), change);
}

#[test]
fn models_that_would_answer_something_else_are_refused() {
    for name in ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"] {
        refuse(name, "is missing", |folder| fs::remove_file(folder.join(name)).unwrap());
    }
    refuse("config.json", "model_type is `blip`", |folder| {
        set(folder, "config.json", |config| config["model_type"] = json!("blip"));
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
