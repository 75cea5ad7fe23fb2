//! Prefill and decode speed of a model that generates, in tokens per second, and what it says.
//!
//!     cargo run --release -p stoker-engine --example generation_bench -- DIRECTORY TOKENS PROMPT...
//!
//! All prompts are generated at the same time, each as a user's message. One JSON object on standard output.
#![expect(clippy::print_stdout, reason = "the result is what it is for")]

use std::env;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use stoker_engine::{Generator, GeneratorOptions, ModelOptions, PreparedPrompt};
use stoker_engine_api::{
    ChatMessage, Engine, GenerationInput, GenerationSettings, ItemInput, ItemOutput, Listener,
    Piece, Prompt, Wanted,
};

/// When the first piece came.
struct First(Instant, Mutex<Option<Duration>>);

impl Listener for First {
    fn said(&self, _: usize, _: Piece) -> Wanted {
        if let Ok(mut first) = self.1.lock() {
            first.get_or_insert_with(|| self.0.elapsed());
        }
        Wanted::Yes
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let directory = arguments.next().ok_or("name the model's folder")?;
    let max_tokens: u32 = arguments.next().ok_or("say how many tokens")?.parse()?;
    let prompts: Vec<String> = arguments.collect();
    let options = GeneratorOptions {
        model: ModelOptions {
            lanes: NonZeroU32::new(u32::try_from(prompts.len())?),
            ..ModelOptions::new("bench", directory)
        },
        step_tokens: None,
        cache_mebibytes: None,
    };
    let engine = Generator::load(&options)?;
    let mut items = Vec::new();
    for prompt in &prompts {
        items.push(prepare(&engine, prompt, max_tokens)?);
    }
    let tokens: usize = items.iter().map(|item| item.prompt().len()).sum();
    let start = Instant::now();
    for item in &items {
        engine.next_numbers(item.prompt())?;
    }
    let prefill = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let outputs = run(&engine, &items, start)?;
    let total = start.elapsed().as_secs_f64();
    let generated: u32 = outputs.iter().map(|(output, _)| output.generated_tokens).sum();
    let texts: Vec<_> = outputs
        .iter()
        .map(|(output, first)| {
            json!({
                "text": output.text,
                "tokens": output.generated_tokens,
                "first_piece_seconds": first.map(|first| first.as_secs_f64()),
            })
        })
        .collect();
    let result = json!({
        "load_seconds": engine.info().load.total(),
        "prompt_tokens": tokens,
        "prompt_token_ids": items.first().map(PreparedPrompt::prompt),
        "prefill_tokens_per_second": f64::from(u32::try_from(tokens)?) / prefill,
        "generated_tokens": generated,
        "decode_tokens_per_second": f64::from(generated) / (total - prefill).max(1e-9),
        "texts": texts,
    });
    println!("{result}");
    Ok(())
}

fn prepare(
    engine: &Generator,
    prompt: &str,
    max_tokens: u32,
) -> Result<PreparedPrompt, Box<dyn std::error::Error>> {
    let message = ChatMessage { role: "user".to_owned(), content: prompt.to_owned() };
    let settings = GenerationSettings::greedy(max_tokens);
    let prompt = Prompt::Chat(vec![message]);
    let input = GenerationInput { prompt, settings, generated: Vec::new() };
    Ok(engine.prepare(ItemInput::Generation(Box::new(input)))?)
}

type Outputs = Vec<(stoker_engine_api::Generation, Option<Duration>)>;

/// Each in a lane of its own, as a worker runs them.
fn run(
    engine: &Generator,
    items: &[PreparedPrompt],
    start: Instant,
) -> Result<Outputs, Box<dyn std::error::Error>> {
    let lane = |item| {
        let heard = First(start, Mutex::new(None));
        let output = engine.run_heard(&[item], &heard);
        (output, heard.1.into_inner().unwrap_or_default())
    };
    let outputs: Vec<_> = thread::scope(|scope| {
        let lanes: Vec<_> = items.iter().map(|item| scope.spawn(move || lane(item))).collect();
        lanes.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let mut found = Vec::new();
    for output in outputs {
        let (output, first) = output.map_err(|_| "a lane panicked")?;
        match output?.pop() {
            Some(ItemOutput::Generation(generation)) => found.push((generation, first)),
            other => return Err(format!("not a generated text: {other:?}").into()),
        }
    }
    Ok(found)
}
