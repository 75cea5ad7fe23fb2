//! A sentence-transformers model of the E5 kind (XLM-RoBERTa, mean pooling, prompts) gives the
//! vectors that sentence-transformers and torch give on the same weights.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use stoker_engine::{DefaultPrompt, EncoderTask, ModelOptions, TextEncoder, TextOptions};
use stoker_engine_api::{Engine, ItemInput, ItemOutput, Prepared as _};

#[derive(Deserialize)]
struct Golden {
    texts: Vec<GoldenText>,
}

#[derive(Deserialize)]
struct GoldenText {
    text: String,
    /// The text of the prompt; empty for none.
    prefix: String,
    tokens: u32,
    numbers: Vec<f32>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny/e5")
}

fn golden() -> Vec<GoldenText> {
    let json = fs::read(folder().join("expected.json")).unwrap();
    serde_json::from_slice::<Golden>(&json).unwrap().texts
}

fn load() -> TextEncoder {
    let loaded = TextEncoder::load(&TextOptions {
        task: EncoderTask::Embedding,
        default_prompt: DefaultPrompt::None,
        model: ModelOptions::new("e5", folder()),
        max_batch_tokens: None,
    });
    loaded.unwrap()
}

fn check(expected: &GoldenText, output: &ItemOutput) {
    let ItemOutput::Embedding(found) = output else { panic!("not an embedding") };
    assert_eq!(found.len(), expected.numbers.len());
    for (found, number) in found.iter().zip(&expected.numbers) {
        let (prefix, text) = (&expected.prefix, &expected.text);
        assert!((found - number).abs() < 1e-5, "{found}, not {number} for {prefix:?} {text:?}");
    }
}

#[test]
fn vectors_equal_the_reference_with_and_without_prompts() {
    let engine = load();
    let golden = golden();
    assert_eq!(golden.iter().filter(|text| text.prefix == "query: ").count(), 11);
    let prepare = |text: &GoldenText| {
        let prompted = format!("{}{}", text.prefix, text.text);
        engine.prepare(ItemInput::Text(prompted)).unwrap()
    };
    let prepared: Vec<_> = golden.iter().map(prepare).collect();
    for (text, prepared) in golden.iter().zip(&prepared) {
        assert_eq!(prepared.cost(), text.tokens, "tokens of {:?} {:?}", text.prefix, text.text);
        check(text, &engine.run(&[prepared]).unwrap()[0]);
    }
    let together = engine.run(&prepared.iter().collect::<Vec<_>>()).unwrap();
    for (text, output) in golden.iter().zip(&together) {
        check(text, output);
    }
}

#[test]
fn it_keeps_the_contract_of_engines() {
    stoker_engine_api::contract::check(load());
}
