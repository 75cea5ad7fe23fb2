//! The first steps of a loaded network, which warm it up and show that it works.

use super::Generator;
use crate::LoadError;
use crate::decoder::{Decoder, StepPart};
use crate::device::classify;

/// Tokens of the text that is tried: more than one tile of any kernel.
const TOKENS: usize = 40;

/// Largest difference of one number between a text that is read at once and one that is read in pieces
/// beside another, as a share of the largest number. On a GPU other sizes are other kernels.
const TOLERANCE: f32 = 2e-2;

/// Reads a text at once, and again in two pieces beside another one.
pub(super) fn try_engine(engine: &Generator) -> Result<(), LoadError> {
    let decoder = engine.steps.decoder();
    let length = TOKENS.min(engine.context() - 1).max(2);
    let vocabulary = engine.vocabulary.size();
    let token = |place: u32| place.wrapping_mul(2_654_435_761) % vocabulary;
    let text: Vec<u32> = (1..).map(token).take(length).collect();
    let failed =
        |error: candle_core::Error| LoadError::Canary { what: classify(&error).to_string() };
    let whole = read_at_once(decoder, &text).map_err(failed)?;
    let pieces = read_in_pieces(decoder, &text).map_err(failed)?;
    let largest = whole.iter().fold(1.0_f32, |max, number| max.max(number.abs()));
    let difference = whole.iter().zip(&pieces).map(|(a, b)| (a - b).abs());
    let difference = difference.fold(0.0_f32, |max, d| if d.is_nan() { d } else { max.max(d) });
    let close = difference <= TOLERANCE * largest;
    if whole.len() != pieces.len() || !largest.is_finite() || !close {
        let what = format!(
            "a text that is read in pieces beside another gives numbers that are off by {difference:e}"
        );
        return Err(LoadError::Canary { what });
    }
    Ok(())
}

fn read_at_once(decoder: &Decoder, text: &[u32]) -> candle_core::Result<Vec<f32>> {
    let mut cache = decoder.cache(text.len())?;
    let part = StepPart { cache: &mut cache, tokens: text, generates: true };
    Ok(decoder.step(&mut [part])?.pop().unwrap_or_default())
}

fn read_in_pieces(decoder: &Decoder, text: &[u32]) -> candle_core::Result<Vec<f32>> {
    let (mut cache, mut other) = (decoder.cache(text.len())?, decoder.cache(text.len())?);
    let (begin, end) = text.split_at(text.len() / 2);
    let mut logits = Vec::new();
    for (tokens, beside, generates) in [(begin, &text[1..2], false), (end, &text[..1], true)] {
        let beside = StepPart { cache: &mut other, tokens: beside, generates: true };
        let part = StepPart { cache: &mut cache, tokens, generates };
        logits = decoder.step(&mut [beside, part])?;
    }
    Ok(logits.pop().unwrap_or_default())
}
