//! Classifiers of each family score texts as transformers and torch do on the same weights, and
//! files that are no classifier are refused.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use stoker_engine::{
    DefaultPrompt, EncoderTask, LoadError, ModelOptions, TextEncoder, TextOptions,
};
use stoker_engine_api::{Engine, ItemInput, ItemOutput, Prepared as _, Scores, TaskKind};
use tempfile::TempDir;

const FAMILIES: [&str; 4] = ["bert", "distilbert", "roberta", "xlm-roberta"];

#[derive(Deserialize)]
struct Golden {
    texts: Vec<GoldenText>,
}

#[derive(Deserialize)]
struct GoldenText {
    text: String,
    tokens: u32,
    truncated: bool,
    numbers: Vec<f32>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny").join(name)
}

fn golden(name: &str) -> Vec<GoldenText> {
    let json = fs::read(folder(name).join("expected.json")).unwrap();
    serde_json::from_slice::<Golden>(&json).unwrap().texts
}

fn load(directory: &Path) -> Result<TextEncoder, LoadError> {
    TextEncoder::load(&TextOptions {
        task: EncoderTask::Classification,
        default_prompt: DefaultPrompt::None,
        model: ModelOptions::new("tiny", directory),
        max_batch_tokens: None,
    })
}

fn scores(output: &ItemOutput) -> &Scores {
    match output {
        ItemOutput::Scores(scores) => scores,
        other => panic!("not scores but {}", other.kind()),
    }
}

fn check(name: &str, expected: &GoldenText, output: &ItemOutput) {
    let found = scores(output);
    assert_eq!(found.truncated, expected.truncated, "{name}: {:?}", expected.text);
    assert_eq!(found.scores.len(), expected.numbers.len());
    for (found, expected_number) in found.scores.iter().zip(&expected.numbers) {
        let difference = (found - expected_number).abs();
        assert!(
            difference < 1e-5,
            "{name}: {found} instead of {expected_number} for {:?}",
            expected.text
        );
    }
}

#[test]
fn scores_equal_the_reference_alone_and_together() {
    for name in FAMILIES {
        let engine = load(&folder(name)).unwrap();
        let golden = golden(name);
        assert!(golden.iter().any(|text| text.truncated) && golden.len() == 11);
        let prepare =
            |text: &GoldenText| engine.prepare(ItemInput::Text(text.text.clone())).unwrap();
        let prepared: Vec<_> = golden.iter().map(prepare).collect();
        for (text, prepared) in golden.iter().zip(&prepared) {
            assert_eq!(prepared.cost(), text.tokens, "{name}: tokens of {:?}", text.text);
            check(name, text, &engine.run(&[prepared]).unwrap()[0]);
        }
        let together = engine.run(&prepared.iter().collect::<Vec<_>>()).unwrap();
        for (text, output) in golden.iter().zip(&together) {
            check(name, text, output);
        }
    }
}

#[test]
fn each_model_says_what_its_labels_are() {
    let labels = FAMILIES.map(|name| {
        let info = load(&folder(name)).unwrap().info().clone();
        assert_eq!((info.task, info.output_dimensions), (TaskKind::TextClassification, None));
        let labels = info.labels.unwrap();
        (labels.names.join("|"), labels.exclusive, info.max_tokens)
    });
    assert_eq!(
        labels,
        [
            ("neutral|joy, or so|Ärger".to_owned(), true, 24),
            ("toxic|insult|threat|spam".to_owned(), false, 28),
            ("LABEL_0|LABEL_1".to_owned(), true, 32),
            ("flagged".to_owned(), false, 32),
        ]
    );
}

#[test]
fn they_keep_the_contract_of_engines() {
    for name in FAMILIES {
        stoker_engine_api::contract::check(load(&folder(name)).unwrap());
    }
}

/// A copy of a model, for breaking it.
fn copy(name: &str) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

fn refuse(name: &str, file: &str, what: &str, change: impl FnOnce(&Path)) {
    let folder = copy(name);
    change(folder.path());
    let Err(error) = load(folder.path()) else { panic!("loaded in spite of {what}") };
    let message = error.to_string();
    let path = folder.path().join(file).display().to_string();
    assert!(message.contains(&path) && message.contains(what), "expected {what:?} in: {message}");
    assert!(!message.contains('\n') && !error.remedy().is_empty(), "{message}");
}

fn set(directory: &Path, field: &str, value: Value) {
    let path = directory.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[field] = value;
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn settings_that_would_change_the_scores_are_refused() {
    for (name, field, value, what) in [
        ("bert", "architectures", json!(["BertForTokenClassification"]), "BertForToken"),
        ("bert", "problem_type", json!("regression"), "problem_type is `regression`"),
        ("bert", "id2label", json!({"0": "a", "1": "b", "3": "c"}), "none for label 2"),
        ("bert", "id2label", json!({"0": "a", "1": "a", "2": "c"}), "name of another one"),
        ("bert", "model_type", json!("deberta"), "model_type is `deberta`"),
        ("distilbert", "activation", json!("relu"), "hidden_act is `relu`"),
        ("roberta", "pad_token_id", json!(33), "pad_token_id leaves none of 34 positions"),
    ] {
        refuse(name, "config.json", what, |directory| set(directory, field, value));
    }
}

#[test]
fn labels_that_the_weights_do_not_have_are_refused() {
    let what = "tensor classifier.weight has shape [3, 16], expected [2, 16]";
    refuse("bert", "model.safetensors", what, |directory| {
        set(directory, "id2label", json!({"0": "a", "1": "b"}));
    });
}

#[test]
fn a_network_without_a_classifier_on_top_is_refused() {
    // The weights of another family have none of the names.
    for (name, family, what) in [
        ("bert", "roberta", "tensor classifier.dense.weight is missing"),
        ("bert", "distilbert", "tensor pre_classifier.weight is missing"),
        ("roberta", "bert", "tensor pooler.dense.weight is missing"),
    ] {
        refuse(name, "model.safetensors", what, |directory| {
            set(directory, "model_type", json!(family));
        });
    }
}

#[test]
fn a_folder_that_is_no_model_is_refused_with_what_it_should_be() {
    let folder = copy("bert");
    fs::remove_file(folder.path().join("config.json")).unwrap();
    let error = load(folder.path()).err().unwrap();
    assert!(error.remedy().contains("sequence classification"), "{}", error.remedy());
}
