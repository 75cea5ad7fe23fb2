//! The first runs of a loaded model, which warm it up and show that it works.

use std::thread;

use candle_core::Device;
use stoker_engine_api::EngineError;

use super::{Network, TextEncoder};
use crate::compare::difference;
use crate::config::ModelConfig;
use crate::loading::{Target, joined};
use crate::weights::WeightsFile;
use crate::{LoadError, Precision};

const SENTENCE: &str = "The canary sings as long as the air in the mine is good.";

/// Company for the sentence, shorter and longer than itself.
const NEIGHBORS: [&str; 2] = [
    "Coal",
    "When it falls silent, the miners leave their tools where they are and walk, without running and \
     without looking back, to the shaft that leads up into the light.",
];

/// Largest difference of one number between two runs: an item's output does not depend on its
/// neighbors beyond rounding.
const TOLERANCE: f32 = 1e-5;

/// Tokens of the text with a known answer: more than one tile of any kernel.
const KNOWN_TOKENS: usize = 40;

/// A text and what the network says of it.
pub(super) struct Known {
    text: Vec<u32>,
    answer: Vec<f32>,
}

/// A text that needs no tokenizer: tokens from all over the vocabulary.
fn known_text(config: &ModelConfig) -> Vec<u32> {
    let vocabulary = u32::try_from(config.encoder.vocabulary).unwrap_or(u32::MAX);
    let length = KNOWN_TOKENS.min(config.max_tokens);
    (1u32..).map(|place| place.wrapping_mul(2_654_435_761) % vocabulary).take(length).collect()
}

/// The answer to the known text, computed on the CPU from the same weights.
///
/// # Errors
/// When the weights do not fit the configuration.
pub(super) fn known_answer(file: &WeightsFile, config: &ModelConfig) -> Result<Known, LoadError> {
    let target = Target { device: &Device::Cpu, precision: Precision::F32 };
    let network = Network::load(file, config, target)?;
    let text = known_text(config);
    let answers = network.numbers(&[&text]);
    let answers = answers.map_err(|error| failed(&crate::device::classify(&error)))?;
    let answer = answers.into_iter().next();
    let answer = answer.ok_or_else(|| wrong("the CPU gives no answer".to_owned()))?;
    Ok(Known { text, answer })
}

/// Runs a sentence alone, again, and among others, and compares the answer to another text with the
/// one that is known, if one is.
pub(super) fn try_engine(
    engine: &TextEncoder,
    known: Option<&Known>,
    precision: Precision,
) -> Result<(), LoadError> {
    let ids = |text: &str| {
        let tokens = engine.tokenizer.encode(text);
        tokens.map_err(|error| wrong(error.to_string()))
    };
    let sentence = ids(SENTENCE)?;
    let [short, long] = [ids(NEIGHBORS[0])?, ids(NEIGHBORS[1])?];
    let run = |texts: &[&[u32]]| engine.numbers(texts).map_err(|error| failed(&error));
    // Side by side, as lanes run.
    let (alone, again, batch) = thread::scope(|scope| {
        let batch = scope.spawn(|| run(&[&long.ids, &sentence.ids, &short.ids]));
        let (alone, again) = (run(&[&sentence.ids])?, run(&[&sentence.ids])?);
        Ok::<_, LoadError>((alone, again, joined(batch)?))
    })?;
    let ([alone], [again], [_, among, _]) = (&alone[..], &again[..], &batch[..]) else {
        return Err(wrong("the number of outputs is wrong".to_owned()));
    };
    if let Some(what) = engine.network.head.problem(alone) {
        return Err(wrong(what));
    }
    // On a GPU, batches of other sizes are other kernels, which round in another order.
    let among_others = if known.is_some() { precision.tolerance() } else { TOLERANCE };
    for (other, tolerance, when) in
        [(again, TOLERANCE, "run again"), (among, among_others, "run among others")]
    {
        let largest = difference(alone, other);
        if largest > tolerance {
            let what = format!("a sentence's output changes by {largest:e} when it is {when}");
            return Err(wrong(what));
        }
    }
    let Some(known) = known else { return Ok(()) };
    let answers = run(&[&known.text])?;
    let largest = answers.first().map_or(f32::INFINITY, |found| difference(&known.answer, found));
    if largest > precision.tolerance() {
        let what = format!("a known output is off by {largest:e}");
        return Err(wrong(what));
    }
    Ok(())
}

/// On a device with memory of its own: runs the largest batch, and halves it until it fits, so that a
/// lack of memory shows now.
pub(super) fn fit_budget(engine: &mut TextEncoder) -> Result<(), LoadError> {
    if engine.info.device == "cpu" {
        return Ok(());
    }
    loop {
        let budget = engine.info.max_batch_tokens;
        match largest_batch(engine) {
            Ok(()) => return Ok(()),
            Err(EngineError::OutOfMemory { message }) if budget > engine.info.max_tokens => {
                engine.info.max_batch_tokens = (budget / 2).max(engine.info.max_tokens);
                let now = engine.info.max_batch_tokens;
                tracing::warn!(budget, now, message, "the largest batch does not fit: halved");
            }
            Err(error) => return Err(failed(&error)),
        }
    }
}

fn largest_batch(engine: &TextEncoder) -> Result<(), EngineError> {
    let longest = vec![0; usize::try_from(engine.info.max_tokens).unwrap_or(1)];
    let budget = usize::try_from(engine.info.max_batch_tokens).unwrap_or(usize::MAX);
    let texts = vec![longest.as_slice(); (budget / longest.len()).max(1)];
    engine.numbers(&texts).map(drop)
}

fn failed(error: &EngineError) -> LoadError {
    wrong(error.to_string())
}

const fn wrong(what: String) -> LoadError {
    LoadError::Canary { what }
}
