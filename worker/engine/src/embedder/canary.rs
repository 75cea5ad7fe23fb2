//! The first runs of a loaded model, which warm it up and show that it works.

use stoker_engine_api::EngineError;

use super::TextEmbedder;
use crate::LoadError;

const SENTENCE: &str = "The canary sings as long as the air in the mine is good.";

/// Company for the sentence, shorter and longer than itself.
const NEIGHBORS: [&str; 2] = [
    "Coal",
    "When it falls silent, the miners leave their tools where they are and walk, without running and \
     without looking back, to the shaft that leads up into the light.",
];

/// Largest difference of one number between two runs: an item's vector does not depend on its
/// neighbors beyond rounding.
const TOLERANCE: f32 = 1e-5;

/// Embeds a sentence alone, again, and among others; on a device with memory of its own also the
/// largest batch, so that a lack of memory shows now.
pub(super) fn try_engine(engine: &TextEmbedder) -> Result<(), LoadError> {
    let failed = |error: EngineError| LoadError::Canary { what: error.to_string() };
    let ids = |text: &str| {
        let tokens = engine.tokenizer.encode(text);
        tokens.map_err(|error| LoadError::Canary { what: error.to_string() })
    };
    let sentence = ids(SENTENCE)?;
    let [short, long] = [ids(NEIGHBORS[0])?, ids(NEIGHBORS[1])?];
    let alone = engine.embed(&[&sentence.0]).map_err(failed)?;
    let again = engine.embed(&[&sentence.0]).map_err(failed)?;
    let batch = engine.embed(&[&long.0, &sentence.0, &short.0]).map_err(failed)?;
    let ([alone], [again], [_, among, _]) = (&alone[..], &again[..], &batch[..]) else {
        return Err(LoadError::Canary { what: "the number of outputs is wrong".to_owned() });
    };
    check_length(engine, alone)?;
    for (other, when) in [(again, "run again"), (among, "run among others")] {
        let scale = alone.iter().fold(1.0f32, |max, number| max.max(number.abs()));
        let largest = alone.iter().zip(other).fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
        if largest > TOLERANCE * scale {
            let what = format!("a sentence's embedding changes by {largest:e} when it is {when}");
            return Err(LoadError::Canary { what });
        }
    }
    if engine.info.device == "cpu" {
        return Ok(());
    }
    largest_batch(engine).map_err(failed)
}

fn check_length(engine: &TextEmbedder, vector: &[f32]) -> Result<(), LoadError> {
    let norm = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    let good = if engine.config.normalize { (norm - 1.0).abs() < 1e-3 } else { norm > 0.0 };
    if good {
        return Ok(());
    }
    Err(LoadError::Canary { what: format!("a sentence's embedding has the length {norm}") })
}

fn largest_batch(engine: &TextEmbedder) -> Result<(), EngineError> {
    let longest = vec![0; engine.config.max_tokens];
    let budget = usize::try_from(engine.info.max_batch_tokens).unwrap_or(usize::MAX);
    let texts = vec![longest.as_slice(); (budget / longest.len()).max(1)];
    engine.embed(&texts).map(drop)
}
