//! `DINOv2` models see images as the reference does, also of other sizes than in training, and read no labels.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use stoker_engine::{ImageTask, LoadError};
use stoker_engine_api::{Engine as _, Prepared as _, TaskKind, contract};

use super::{check_vectors, copy, file, folder, load, plain, set};

const MODELS: [&str; 4] = ["same", "smaller", "larger", "registers"];

fn root(model: &str) -> PathBuf {
    folder("tiny-dino").join(model)
}

#[test]
fn embeddings_equal_the_reference_alone_and_together() {
    for model in MODELS {
        check_vectors(&root(model));
    }
}

#[test]
fn an_engine_says_what_it_takes_and_makes() {
    for (model, tokens) in [("same", 17), ("smaller", 10), ("larger", 26), ("registers", 13)] {
        let engine = load(&root(model), ImageTask::Embedding).unwrap();
        let info = engine.info();
        assert_eq!((info.task, info.output_dimensions), (TaskKind::ImageEmbedding, Some(24)));
        assert_eq!((info.max_tokens, &info.labels), (tokens, &None), "{model}");
        assert_eq!(engine.prepare(plain(file("wide.png"))).unwrap().cost(), tokens, "{model}");
    }
}

#[test]
fn they_keep_the_contract_of_engines() {
    let files = ["wide.png", "tall.png", "photo.jpg", "moving.gif", "lossless.webp"];
    for model in ["larger", "registers"] {
        let engine = load(&root(model), ImageTask::Embedding).unwrap();
        contract::check_with(engine, &files.map(|name| plain(file(name))));
    }
}

fn refuse(file: &str, what: &str, change: impl FnOnce(&Path)) {
    super::refuse((&root("registers"), ImageTask::Embedding), (file, what), change);
}

#[test]
fn models_that_would_answer_something_else_are_refused() {
    for name in ["config.json", "preprocessor_config.json", "model.safetensors"] {
        refuse(name, "is missing", |folder| fs::remove_file(folder.join(name)).unwrap());
    }
    refuse("config.json", "qkv_bias is false", |folder| {
        set(folder, "config.json", |config| config["qkv_bias"] = json!(false));
    });
    let cut = |side: Value| {
        move |folder: &Path| {
            set(folder, "preprocessor_config.json", |config| config["crop_size"] = side);
        }
    };
    refuse("preprocessor_config.json", "less than patch_size, 8", cut(json!(7)));
    refuse("preprocessor_config.json", "500 patches of 8, expected at most 100", |folder| {
        set(folder, "preprocessor_config.json", |config| {
            config["size"] = json!({"height": 4_000, "width": 4_000});
            config["crop_size"] = json!(4_000);
        });
    });
    let oblong = cut(json!({"height": 24, "width": 32}));
    refuse("preprocessor_config.json", "32 x 24 pixels, which is no square", oblong);
}

#[test]
fn labels_are_refused_by_a_model_that_reads_none() {
    let labels = (root("same"), ImageTask::Classification);
    let file = ("config.json", "a dinov2 model reads no labels");
    super::refuse((&labels.0, labels.1), file, |_| {});
}

#[test]
fn weights_that_do_not_fit_the_configuration_are_refused() {
    for (key, value, what) in [
        (
            "image_size",
            json!(64),
            "position_embeddings has shape [1, 50, 24], expected [1, 65, 24]",
        ),
        (
            "num_register_tokens",
            json!(2),
            "register_tokens has shape [1, 3, 24], expected [1, 2, 24]",
        ),
        ("mlp_ratio", json!(3), "mlp.fc1.weight has shape [48, 24], expected [72, 24]"),
        ("num_hidden_layers", json!(3), "encoder.layer.2."),
        ("use_swiglu_ffn", json!(true), "encoder.layer.0.mlp.weights_in.weight is missing"),
    ] {
        refuse("model.safetensors", what, |folder| {
            set(folder, "config.json", |config| config[key] = value);
        });
    }
}

/// Below a head for labels, a network is saved with its name in front of each tensor's.
#[test]
fn a_network_below_a_head_for_labels_is_found() {
    for (model, prefix) in [("same", "dinov2."), ("registers", "dinov2_with_registers.")] {
        let folder = copy(&root(model));
        let path = folder.path().join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let (length, rest) = bytes.split_first_chunk().unwrap();
        let (header, numbers) =
            rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
        let tensors: Map<String, Value> = serde_json::from_slice(header).unwrap();
        let named = tensors.into_iter().map(|(name, tensor)| match name.as_str() {
            "__metadata__" => (name, tensor),
            _ => (format!("{prefix}{name}"), tensor),
        });
        let header = serde_json::to_vec(&named.collect::<Map<_, _>>()).unwrap();
        let length = u64::try_from(header.len()).unwrap().to_le_bytes();
        fs::write(&path, [&length[..], &header, numbers].concat()).unwrap();
        check_vectors(folder.path());
    }
}

#[test]
fn weights_that_are_not_numbers_are_refused() {
    let folder = copy(&root("same"));
    let path = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let Err(error) = load(folder.path(), ImageTask::Embedding) else { panic!("loaded") };
    assert!(matches!(error, LoadError::NotFinite { .. }), "{error}");
}
