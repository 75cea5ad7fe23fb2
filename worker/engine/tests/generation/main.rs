//! Text generation with small models of the real architectures: against the reference implementation, in
//! company and alone, taken up again, and with everything that can be wrong.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod batches;
mod broken;
mod reference;
mod smollm2;

use std::path::{Path, PathBuf};

use stoker_engine::{Generator, GeneratorOptions, LoadError, ModelOptions, PreparedPrompt};
use stoker_engine_api::{
    ChatMessage, Engine, Generation, GenerationInput, GenerationSettings, ItemError, ItemInput,
    ItemOutput, Prompt,
};

/// Every folder of small models.
const MODELS: [&str; 5] = ["llama", "mistral", "qwen2", "qwen3", "llama-gguf"];

fn folder(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny-decoders").join(model)
}

fn options(directory: &Path) -> GeneratorOptions {
    GeneratorOptions {
        model: ModelOptions::new("tiny", directory),
        step_tokens: None,
        cache_mebibytes: None,
    }
}

fn load(directory: &Path) -> Result<Generator, LoadError> {
    Generator::load(&options(directory))
}

/// Always the likeliest token.
fn greedy(max_tokens: u32) -> GenerationSettings {
    GenerationSettings::greedy(max_tokens)
}

fn text(text: &str) -> Prompt {
    Prompt::Text(text.to_owned())
}

fn chat(messages: &[(&str, &str)]) -> Prompt {
    let message = |(role, content): &(&str, &str)| ChatMessage {
        role: (*role).to_owned(),
        content: (*content).to_owned(),
    };
    Prompt::Chat(messages.iter().map(message).collect())
}

fn prepare(
    engine: &Generator,
    prompt: Prompt,
    settings: GenerationSettings,
    generated: &[u32],
) -> Result<PreparedPrompt, ItemError> {
    let generated = generated.to_vec();
    engine.prepare(ItemInput::Generation(Box::new(GenerationInput { prompt, settings, generated })))
}

fn run(engine: &Generator, items: &[&PreparedPrompt]) -> Vec<Generation> {
    let outputs = engine.run(items).unwrap().into_iter();
    let generation = |output| match output {
        ItemOutput::Generation(generation) => generation,
        other => panic!("not a text but {}", other.kind()),
    };
    outputs.map(generation).collect()
}

fn generate(engine: &Generator, prompt: Prompt, settings: GenerationSettings) -> Generation {
    run(engine, &[&prepare(engine, prompt, settings, &[]).unwrap()]).remove(0)
}

#[test]
fn it_keeps_the_contract_of_engines() {
    for model in MODELS {
        stoker_engine_api::contract::check(load(&folder(model)).unwrap());
    }
}
