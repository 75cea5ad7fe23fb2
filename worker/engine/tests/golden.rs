//! Embeddings equal those of sentence-transformers and torch on the same weights.

use std::path::{Path, PathBuf};
use std::{env, fs};

use serde::Deserialize;
use stoker_engine::{DefaultPrompt, EncoderTask, ModelOptions, TextEncoder, TextOptions};
use stoker_engine_api::{Engine, ItemInput, ItemOutput, Prepared as _, TaskKind};

#[derive(Deserialize)]
struct Golden {
    texts: Vec<GoldenText>,
}

#[derive(Deserialize)]
struct GoldenText {
    text: String,
    tokens: u32,
    embedding: Vec<f32>,
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/all-minilm-l6-v2.json");
    let json = fs::read(path).expect("the golden file is in the repository");
    serde_json::from_slice(&json).expect("the golden file is valid")
}

fn model() -> TextEncoder {
    let directory = env::var_os("STOKER_TEST_MODEL_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/models/all-minilm-l6-v2"),
        PathBuf::from,
    );
    assert!(
        directory.join("config.json").exists(),
        "no model in {}: run `make model`, or set STOKER_TEST_MODEL_DIR",
        directory.display()
    );
    let options = TextOptions {
        task: EncoderTask::Embedding,
        default_prompt: DefaultPrompt::None,
        model: ModelOptions {
            digest: Some(
                "sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
                    .to_owned(),
            ),
            ..ModelOptions::new("all-minilm-l6-v2", directory)
        },
        max_batch_tokens: None,
    };
    TextEncoder::load(&options).unwrap_or_else(|error| panic!("{error}; {}", error.remedy()))
}

fn check(text: &str, found: &ItemOutput, expected: &[f32]) {
    let ItemOutput::Embedding(found) = found else { panic!("not an embedding") };
    assert_eq!(found.len(), expected.len());
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let cosine = dot(found, expected) / (dot(found, found) * dot(expected, expected)).sqrt();
    assert!(cosine >= 0.99999, "cosine {cosine} for {text:.40?}");
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let largest = differences.fold(0.0, f32::max);
    assert!(largest <= 1e-5, "largest difference {largest:e} for {text:.40?}");
}

#[test]
fn embeddings_equal_the_reference_alone_and_together() {
    let engine = model();
    let golden = golden();
    assert_eq!(golden.texts.len(), 32);
    let prepare = |text: &GoldenText| engine.prepare(ItemInput::Text(text.text.clone())).unwrap();
    let prepared: Vec<_> = golden.texts.iter().map(prepare).collect();
    for (text, prepared) in golden.texts.iter().zip(&prepared) {
        assert_eq!(prepared.cost(), text.tokens, "tokens of {:.40?}", text.text);
        let alone = engine.run(&[prepared]).unwrap();
        check(&text.text, &alone[0], &text.embedding);
    }
    let together = engine.run(&prepared.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(together.len(), prepared.len());
    for (text, output) in golden.texts.iter().zip(&together) {
        check(&text.text, output, &text.embedding);
    }
}

#[test]
fn engine_says_what_it_loaded() {
    let engine = model();
    let info = engine.info();
    assert_eq!(info.task, TaskKind::TextEmbedding);
    assert_eq!((info.output_dimensions, info.max_tokens), (Some(384), 256));
    // 22.7 million numbers, less the pooler, which embedding does not use.
    assert!((85_000_000..91_000_000).contains(&info.weights_bytes), "{}", info.weights_bytes);
    assert!(info.lanes >= 1 && info.load.total() > 0.0);
}

#[test]
fn empty_batch_gives_an_empty_answer() {
    assert_eq!(model().run(&[]).unwrap(), []);
}
