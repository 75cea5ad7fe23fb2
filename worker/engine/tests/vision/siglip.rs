//! `SigLIP` models see images and compare them with labels as the reference does: each label by itself.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use stoker_engine::ImageTask;
use stoker_engine_api::{Engine as _, ItemError, Prepared as _, TaskKind, contract};

use super::{asking, check_scores, check_vectors, file, folder, load, plain, set};

const MODELS: [&str; 2] = ["base", "narrow"];

fn root(model: &str) -> PathBuf {
    folder("tiny-siglip").join(model)
}

#[test]
fn embeddings_equal_the_reference_alone_and_together() {
    for model in MODELS {
        check_vectors(&root(model));
    }
}

#[test]
fn scores_of_labels_equal_the_reference_in_batches_of_different_questions() {
    for model in MODELS {
        check_scores(&root(model));
    }
}

#[test]
fn an_engine_says_what_it_takes_and_makes() {
    let engine = load(&root("base"), ImageTask::Embedding).unwrap();
    let info = engine.info();
    assert_eq!((info.task, info.output_dimensions), (TaskKind::ImageEmbedding, Some(24)));
    assert_eq!((info.max_tokens, &info.labels), (16, &None));
    assert_eq!(engine.prepare(plain(file("wide.png"))).unwrap().cost(), 16);
    let engine = load(&root("base"), ImageTask::Classification).unwrap();
    let labels = engine.info().labels.as_ref().unwrap();
    assert!(!labels.exclusive && labels.names.is_empty());
}

#[test]
fn they_keep_the_contract_of_engines() {
    let files = ["wide.png", "tall.png", "photo.jpg", "moving.gif", "lossless.webp"];
    let labels = ["cat", "dog", "sea"].map(str::to_owned);
    for model in MODELS {
        let embedding = load(&root(model), ImageTask::Embedding).unwrap();
        contract::check_with(embedding, &files.map(|name| plain(file(name))));
        let classification = load(&root(model), ImageTask::Classification).unwrap();
        let asked = files.map(|name| asking(file(name), &labels, "a {}"));
        contract::check_with(classification, &asked);
    }
}

#[test]
fn a_label_that_is_longer_than_the_network_reads_is_refused() {
    let engine = load(&root("base"), ImageTask::Classification).unwrap();
    let long = ["a photo of a cat and a dog at the sea ".repeat(5)];
    let Err(ItemError::Invalid { message }) =
        engine.prepare(asking(file("gray.png"), &long, "a {}"))
    else {
        panic!("it was prepared")
    };
    assert!(message.contains("longer than the model reads"), "{message}");
}

fn refuse(file: &str, what: &str, change: impl FnOnce(&Path)) {
    super::refuse((&root("narrow"), ImageTask::Classification), (file, what), change);
}

#[test]
fn models_that_would_answer_something_else_are_refused() {
    for name in ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"] {
        refuse(name, "is missing", |folder| fs::remove_file(folder.join(name)).unwrap());
    }
    refuse("config.json", "vision_use_head is false", |folder| {
        set(folder, "config.json", |config| {
            config["vision_config"]["vision_use_head"] = json!(false);
        });
    });
    refuse("preprocessor_config.json", "but image_size is 30", |folder| {
        set(folder, "preprocessor_config.json", |config| {
            config["size"] = json!({"height": 42, "width": 42});
        });
    });
    for (key, value, what) in [
        ("pad_token", json!(null), "names no pad_token"),
        ("pad_token", json!("<fill>"), "pad_token is <fill>, which tokenizer.json does not have"),
        ("padding_side", json!("left"), "padding_side is left"),
        (
            "tokenizer_class",
            json!("GemmaTokenizer"),
            "names no padding_side, which not every Gemma",
        ),
    ] {
        refuse("tokenizer_config.json", what, |folder| {
            set(folder, "tokenizer_config.json", |config| config[key] = value);
        });
    }
}

/// As Google's second generation: with Gemma's tokenizer, which does not lowercase by itself.
#[test]
fn texts_are_lowercased_where_only_the_other_file_says_so() {
    for habits in [
        json!({"tokenizer_class": "GemmaTokenizer", "padding_side": "right", "do_lower_case": true}),
        json!({"tokenizer_class": "Siglip2Tokenizer", "padding_side": "right"}),
        json!({"tokenizer_class": "SiglipTokenizer"}),
    ] {
        let folder = super::copy(&root("base"));
        set(folder.path(), "tokenizer.json", |file| {
            let normalizers = file["normalizer"]["normalizers"].as_array_mut().unwrap();
            normalizers.retain(|normalizer| normalizer["type"] != "Lowercase");
        });
        set(folder.path(), "tokenizer_config.json", |config| {
            let habits = habits.as_object().unwrap().clone();
            config.as_object_mut().unwrap().extend(habits);
        });
        check_scores(folder.path());
    }
}

#[test]
fn a_tokenizer_of_sentencepiece_alone_is_refused_and_says_what_is_needed() {
    let folder = super::copy(&root("base"));
    fs::rename(folder.path().join("tokenizer.json"), folder.path().join("spiece.model")).unwrap();
    let Err(error) = load(folder.path(), ImageTask::Classification) else { panic!("loaded") };
    assert!(error.to_string().ends_with("tokenizer.json is missing"), "{error}");
    assert!(error.remedy().starts_with("spiece.model is not read: fetch"), "{}", error.remedy());
    // Nothing is read where nothing is asked.
    load(folder.path(), ImageTask::Embedding).unwrap();
}

#[test]
fn weights_that_do_not_fit_the_configuration_are_refused() {
    for (network, key, value, what) in [
        (
            "vision_config",
            "intermediate_size",
            48,
            "mlp.fc1.weight has shape [40, 24], expected [48, 24]",
        ),
        ("vision_config", "num_hidden_layers", 3, "vision_model.encoder.layers.2."),
        ("text_config", "max_position_embeddings", 41, "has shape [40, 16], expected [41, 16]"),
        ("text_config", "num_hidden_layers", 3, "text_model.encoder.layers.2."),
    ] {
        refuse("model.safetensors", what, |folder| {
            set(folder, "config.json", |config| config[network][key] = json!(value));
        });
    }
}

#[test]
fn numbers_that_are_none_are_refused_in_the_head_too() {
    use std::io::Write as _;

    let folder = super::copy(&root("base"));
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let (length, rest) = bytes.split_at(8);
    let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&rest[..length]).unwrap();
    let first = &header["vision_model.head.probe"]["data_offsets"][0];
    let first = 8 + length + usize::try_from(first.as_u64().unwrap()).unwrap();
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(&bytes[..first]).unwrap();
    file.write_all(&f32::NAN.to_le_bytes()).unwrap();
    file.write_all(&bytes[first + 4..]).unwrap();
    drop(file);
    let Err(error) = load(folder.path(), ImageTask::Embedding) else { panic!("loaded") };
    assert!(error.to_string().contains("vision_model.head.probe holds numbers that"), "{error}");
}
