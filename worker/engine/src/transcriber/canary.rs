//! The first window of a loaded network, which warms it up and shows that it works.

use super::Transcriber;
use crate::LoadError;
use crate::compare::difference;
use crate::device::classify;

/// Tokens that are tried, the first among them.
const TOKENS: usize = 6;

/// Largest difference of one number between a text that is read at once and one that is read token by token, as a
/// share of the largest number. On a GPU other sizes are other kernels.
const TOLERANCE: f32 = 2e-2;

/// Hears a window, and reads a text about it at once and token by token.
pub(super) fn try_engine(engine: &Transcriber) -> Result<(), LoadError> {
    let config = engine.network.config();
    let vocabulary = u32::try_from(config.vocabulary).unwrap_or(u32::MAX);
    let token = |place: u32| place.wrapping_mul(2_654_435_761) % vocabulary;
    let mut text: Vec<u32> = (1..).map(token).take(TOKENS.min(config.context)).collect();
    text[0] = engine.words.start();
    let feature = |place: usize| {
        let step = u16::try_from(place * 7_919 % 1_009).unwrap_or(0);
        f32::from(step) / 1_009.0 - 0.25
    };
    let features: Vec<f32> = (0..config.frames() * config.bands).map(feature).collect();
    let numbers = both_ways(engine, features, &text);
    let [whole, pieces] =
        numbers.map_err(|error| LoadError::Canary { what: classify(&error).to_string() })?;
    let difference = difference(&whole, &pieces);
    let close = difference <= TOLERANCE;
    if whole.len() != config.vocabulary || !close {
        let what = format!(
            "a text that is read token by token gives numbers that are off by {difference:e}"
        );
        return Err(LoadError::Canary { what });
    }
    Ok(())
}

fn both_ways(
    engine: &Transcriber,
    features: Vec<f32>,
    text: &[u32],
) -> candle_core::Result<[Vec<f32>; 2]> {
    let heard = engine.network.hear(features)?;
    let whole = engine.network.write(&mut engine.network.begin(&heard)?, text)?;
    let mut writing = engine.network.begin(&heard)?;
    let mut pieces = Vec::new();
    for token in text {
        pieces = engine.network.write(&mut writing, &[*token])?;
    }
    Ok([whole, pieces])
}
