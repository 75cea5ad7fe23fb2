//! Small models with random weights: variants of the network, and everything that can be broken.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod broken;
mod model;
mod reference;

use std::path::Path;

use model::{PLAIN, Shape, random_tensors};
use reference::Reference;
use safetensors::Dtype;
use stoker_engine::{
    DefaultPrompt, EncoderTask, LoadError, ModelOptions, TextEncoder, TextOptions,
};
use stoker_engine_api::{Engine, ItemInput, ItemOutput, Prepared as _};

fn options(directory: &Path) -> TextOptions {
    TextOptions {
        task: EncoderTask::Embedding,
        default_prompt: DefaultPrompt::None,
        model: ModelOptions::new("tiny", directory),
        max_batch_tokens: None,
    }
}

fn load(directory: &Path) -> Result<TextEncoder, LoadError> {
    TextEncoder::load(&options(directory))
}

fn text(text: &str) -> ItemInput {
    ItemInput::Text(text.to_owned())
}

fn run(engine: &TextEncoder, texts: &[&str]) -> Vec<Vec<f32>> {
    let prepared: Vec<_> = texts.iter().map(|one| engine.prepare(text(one)).unwrap()).collect();
    let outputs = engine.run(&prepared.iter().collect::<Vec<_>>()).unwrap();
    let vector = |output| match output {
        ItemOutput::Embedding(vector) => vector,
        other => panic!("not an embedding but {}", other.kind()),
    };
    outputs.into_iter().map(vector).collect()
}

/// Letters to ids as the tokenizer of these models does it.
fn ids(text: &str) -> Vec<u32> {
    let letters = text.bytes().filter(|byte| *byte != b' ').map(|byte| u32::from(byte - b'a') + 4);
    let mut ids: Vec<u32> = std::iter::once(2).chain(letters).take(11).collect();
    ids.push(3);
    ids
}

fn pool(rows: &[Vec<f64>], shape: Shape) -> Vec<f64> {
    let count = f64::from(u32::try_from(rows.len()).unwrap());
    let mut vector = if shape.pooling == "cls" {
        rows[0].clone()
    } else {
        (0..rows[0].len()).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / count).collect()
    };
    if shape.normalize {
        let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
        vector = vector.iter().map(|x| x / norm).collect();
    }
    vector
}

const TEXTS: [&str; 5] =
    ["a b c", "", "z", "h e l l o w o r l d a n d m o r e t h a n f i t s", "q r s t u v"];

fn check_against_reference(shape: Shape, tolerance: f64) {
    let folder = model::write(shape);
    let engine = load(folder.path()).unwrap();
    let tensors = random_tensors(shape.size);
    let expected = Reference(&tensors).forward(&TEXTS.map(ids));
    for (found, rows) in run(&engine, &TEXTS).iter().zip(expected) {
        let expected = pool(&rows, shape);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            let difference = (f64::from(*found) - expected).abs();
            assert!(difference < tolerance, "{found} instead of {expected}");
        }
    }
}

#[test]
fn mean_pooling_with_normalization() {
    check_against_reference(PLAIN, 1e-5);
}

#[test]
fn cls_pooling_with_normalization() {
    check_against_reference(Shape { pooling: "cls", ..PLAIN }, 1e-5);
}

#[test]
fn vectors_keep_their_length_without_normalization() {
    check_against_reference(Shape { normalize: false, ..PLAIN }, 1e-4);
}

#[test]
fn weights_under_the_name_of_the_network() {
    check_against_reference(Shape { prefix: "bert.", ..PLAIN }, 1e-5);
}

#[test]
fn weights_of_sixteen_bits() {
    // Eight bits of mantissa: about 1 % per weight.
    check_against_reference(Shape { dtype: Dtype::BF16, ..PLAIN }, 5e-2);
}

#[test]
fn length_is_the_model_s_own_and_not_the_tokenizer_file_s() {
    let folder = model::write(PLAIN);
    let engine = load(folder.path()).unwrap();
    let cost = |input: &str| engine.prepare(text(input)).unwrap().cost();
    assert_eq!([cost(""), cost("a"), cost(&"a ".repeat(1000))], [2, 3, 12]);
    assert_eq!(engine.info().max_tokens, 12);
}

#[test]
fn neighbors_do_not_change_an_embedding() {
    let folder = model::write(PLAIN);
    let engine = load(folder.path()).unwrap();
    let together = run(&engine, &TEXTS);
    for (one, among) in TEXTS.iter().zip(together) {
        for (a, b) in run(&engine, &[one])[0].iter().zip(among) {
            assert!((a - b).abs() < 1e-6, "{one:?}: {a} alone, {b} among others");
        }
    }
}

#[test]
fn newer_pooling_file_with_a_word_for_the_mode() {
    let folder = model::write(PLAIN);
    let file = serde_json::json!({"embedding_dimension": model::HIDDEN, "pooling_mode": "mean"});
    model::write_json(folder.path(), "1_Pooling/config.json", &file);
    let before = model::write(PLAIN);
    let vectors = [folder, before].map(|folder| run(&load(folder.path()).unwrap(), &["a b"]));
    assert_eq!(vectors[0], vectors[1]);
}

#[test]
fn it_keeps_the_contract_of_engines() {
    for shape in [PLAIN, Shape { pooling: "cls", normalize: false, ..PLAIN }] {
        stoker_engine_api::contract::check(load(model::write(shape).path()).unwrap());
    }
}
