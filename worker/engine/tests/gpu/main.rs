//! The engine on an NVIDIA GPU: the same numbers as on the CPU, faster, and everything given back.
//!
//! Run by `make test-gpu`, one test after the other: they measure the device's memory. They expect a
//! GPU and fail without one; the script skips them where there is none.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod device;
mod equality;
mod faces;
mod memory;
#[path = "../tiny/model.rs"]
mod model;
mod process;
mod speed;

use std::env;
use std::path::{Path, PathBuf};

use stoker_engine::{
    DefaultPrompt, EncoderTask, EngineDevice, LoadError, ModelOptions, Precision, TextEncoder,
    TextOptions,
};
use stoker_engine_api::{Engine, ItemInput, ItemOutput};

const GPU: EngineDevice = EngineDevice::Cuda(0);

/// A folder of the repository, also where the test runs on another machine than it was built on.
fn in_repository(variable: &str, path: &str) -> PathBuf {
    env::var_os(variable).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path),
        PathBuf::from,
    )
}

fn minilm() -> PathBuf {
    in_repository("STOKER_TEST_MODEL_DIR", ".cache/models/all-minilm-l6-v2")
}

/// Sentences of a novel, from 4 words to a paragraph.
fn corpus(count: usize) -> Vec<String> {
    let text =
        std::fs::read_to_string(in_repository("STOKER_TEST_CORPUS", "demo/corpus/austen.txt"));
    text.unwrap().lines().map(str::to_owned).take(count).collect()
}

fn load(
    directory: &Path,
    device: EngineDevice,
    precision: Precision,
) -> Result<TextEncoder, LoadError> {
    TextEncoder::load(&options(directory, device, precision))
}

fn options(directory: &Path, device: EngineDevice, precision: Precision) -> TextOptions {
    TextOptions {
        task: EncoderTask::Embedding,
        model: ModelOptions { device, precision, ..ModelOptions::new("tested", directory) },
        default_prompt: DefaultPrompt::None,
        max_batch_tokens: None,
    }
}

/// Vectors or scores of texts, in batches as large as the engine's budget says, in the texts' order.
fn embed(engine: &TextEncoder, texts: &[String]) -> Vec<Vec<f32>> {
    use stoker_engine_api::Prepared as _;
    let budget = engine.info().max_batch_tokens;
    let prepared: Vec<_> =
        texts.iter().map(|one| engine.prepare(ItemInput::Text(one.clone())).unwrap()).collect();
    let mut vectors = Vec::with_capacity(texts.len());
    let mut rest = &prepared[..];
    while !rest.is_empty() {
        let mut tokens = 0;
        let fit = rest.iter().take_while(|item| {
            tokens += item.cost();
            tokens <= budget
        });
        let (batch, after) = rest.split_at(fit.count().max(1));
        let outputs = engine.run(&batch.iter().collect::<Vec<_>>()).unwrap();
        vectors.extend(outputs.into_iter().map(vector));
        rest = after;
    }
    vectors
}

fn vector(output: ItemOutput) -> Vec<f32> {
    match output {
        ItemOutput::Embedding(vector) => vector,
        ItemOutput::Scores(scores) => scores.scores,
        ItemOutput::Text(_) | ItemOutput::Generation(_) | ItemOutput::Transcript(_) => {
            panic!("a text")
        }
        ItemOutput::Faces(_) => panic!("faces"),
    }
}
