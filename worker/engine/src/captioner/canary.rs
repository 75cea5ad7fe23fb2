//! The first runs of a loaded model, which warm it up and show that it works.

use stoker_engine_api::EngineError;

use super::{Captioner, PreparedCaption};
use crate::blip::{Blip, WordsConfig};
use crate::compare::difference;
use crate::device::classify;
use crate::images::{ImageConfig, Size};
use crate::{LoadError, Precision};

/// Largest difference of one number between two runs of the same.
const TOLERANCE: f32 = 1e-5;

/// Tokens of the caption that is tried, where there is room for them.
const TOKENS: usize = 6;

/// What the decoder says of the first image after the canary's tokens.
pub(super) struct Known(Vec<f32>);

/// An image that needs no file, with all frequencies; others by other seeds.
fn image(Size { width, height }: Size, seed: usize) -> Vec<u8> {
    let byte = |place: usize| {
        let (x, y) = (place / 3 % width, place / 3 / width);
        u8::try_from(((x * 7 + y * 13 + place % 3 * 29 + seed) ^ (x * y / 8)) % 256).unwrap_or(0)
    };
    (0..width * height * 3).map(byte).collect()
}

/// Tokens of a caption that says nothing.
fn tokens(begin: u32, vocabulary: u32, positions: usize) -> Vec<u32> {
    let token = |place: u32| place.wrapping_mul(2_654_435_761) % vocabulary;
    let mut tokens: Vec<u32> = (1..).map(token).take(TOKENS.min(positions)).collect();
    tokens[0] = begin;
    tokens
}

/// The answer for the first image, computed on the CPU from the same weights.
///
/// # Errors
/// When it cannot be computed.
pub(super) fn known_answer(
    network: &Blip,
    images: &ImageConfig,
    words: &WordsConfig,
) -> Result<Known, LoadError> {
    let vocabulary = u32::try_from(words.vocabulary).unwrap_or(u32::MAX);
    let tokens = tokens(words.begin, vocabulary, words.positions);
    let answer = || {
        let seen = network.see(&[&image(images.seen, 0)], &images.numbers)?;
        let mut captions = network.begin(&seen, &[tokens.len()])?;
        network.step(&mut captions.iter_mut().collect::<Vec<_>>(), &[&tokens])
    };
    let answers = answer().map_err(|error: candle_core::Error| failed(&classify(&error)))?;
    let answer = answers.into_iter().next();
    answer.map(Known).ok_or_else(|| wrong("the CPU gives no answer".to_owned()))
}

/// Says something of an image alone, again, token by token and among others; and compares it with the answer that
/// is known, if one is.
pub(super) fn try_engine(
    engine: &Captioner,
    known: Option<&Known>,
    precision: Precision,
) -> Result<(), LoadError> {
    let [first, second, third] = [0, 1, 2].map(|seed| image(engine.images.seen, seed));
    let words = &engine.words;
    let tokens = tokens(words.first(), words.vocabulary(), words.positions());
    let run = |images: &[&[u8]], pieces: &[&[u32]]| {
        engine.numbers(images, pieces).map_err(|error| failed(&error))
    };
    let alone = run(&[&first], &[&tokens])?;
    let again = run(&[&first], &[&tokens])?;
    let pieces: Vec<&[u32]> = tokens.chunks(1).collect();
    let pieces = run(&[&first], &pieces)?;
    let batch = run(&[&second, &first, &third], &[&tokens])?;
    let ([alone], [again], [pieces], [_, among, _]) =
        (&alone[..], &again[..], &pieces[..], &batch[..])
    else {
        return Err(wrong("the number of outputs is wrong".to_owned()));
    };
    if alone.len() != usize::try_from(words.vocabulary()).unwrap_or(usize::MAX) {
        return Err(wrong(format!("there are {} numbers for its tokens", alone.len())));
    }
    // On a GPU, other sizes are other kernels, which round in another order.
    let otherwise = if known.is_some() { precision.tolerance() } else { TOLERANCE };
    for (other, tolerance, when) in [
        (again, TOLERANCE, "said again"),
        (pieces, otherwise, "said token by token"),
        (among, otherwise, "said among others"),
    ] {
        let largest = difference(alone, other);
        if largest > tolerance {
            return Err(wrong(format!(
                "a caption's numbers change by {largest:e} when it is {when}"
            )));
        }
    }
    let largest = known.map_or(0.0, |Known(known)| difference(known, alone));
    if largest > precision.tolerance() {
        return Err(wrong(format!("a known output is off by {largest:e}")));
    }
    Ok(())
}

/// On a device with memory of its own: begins the largest batch, and halves it until it fits, so that a lack of
/// memory shows now.
pub(super) fn fit_budget(engine: &mut Captioner) -> Result<(), LoadError> {
    if engine.info.device == "cpu" {
        return Ok(());
    }
    let most = engine.info.max_tokens;
    loop {
        let budget = engine.info.max_batch_tokens;
        // Captions of one word take the least of a budget, so that there are the most images.
        let each = engine.cost(2);
        let item = PreparedCaption {
            seen: image(engine.images.seen, 0),
            prompt: vec![engine.words.first()],
            max_tokens: 1,
            cost: each,
        };
        let items = vec![&item; usize::try_from(budget / each).unwrap_or(1).max(1)];
        match engine.say(&items) {
            Ok(_) => return Ok(()),
            Err(EngineError::OutOfMemory { message }) if budget > most => {
                engine.info.max_batch_tokens = (budget / 2).max(most);
                let now = engine.info.max_batch_tokens;
                tracing::warn!(budget, now, message, "the largest batch does not fit: halved");
            }
            Err(error) => return Err(failed(&error)),
        }
    }
}

fn failed(error: &EngineError) -> LoadError {
    wrong(error.to_string())
}

const fn wrong(what: String) -> LoadError {
    LoadError::Canary { what }
}
