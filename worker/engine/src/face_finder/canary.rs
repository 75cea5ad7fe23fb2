//! The first runs of a loaded model, which warm it up and show that it works.
//!
//! What its networks say is compared, and not which faces are found: of a pattern that needs no file none are.

use stoker_engine_api::EngineError;

use super::load::Networks;
use super::{FaceFinder, Recognizing};
use crate::compare::difference;
use crate::device::classify;
use crate::faces::AtOnce;
use crate::{LoadError, Precision};

/// Largest difference of one number between two runs of the same.
const TOLERANCE: f32 = 1e-5;

/// What the networks that find faces are shown when they are tried.
const FEW: AtOnce = AtOnce { side: 20, images: 3 };

/// What a CPU's networks say.
pub(super) struct Known {
    found: Vec<f32>,
    vector: Option<Vec<f32>>,
}

/// An image that needs no file, with all frequencies; others by other seeds.
fn image(side: usize, seed: usize) -> Vec<u8> {
    let byte = |place: usize| {
        let (x, y) = (place / 3 % side, place / 3 / side);
        u8::try_from(((x * 7 + y * 13 + place % 3 * 29 + seed) ^ (x * y / 8)) % 256).unwrap_or(0)
    };
    (0..side * side * 3).map(byte).collect()
}

/// What networks on the CPU say.
///
/// # Errors
/// When it cannot be computed.
pub(super) fn known_answer(networks: &Networks) -> Result<Known, LoadError> {
    let found = networks.detector.probe(FEW).map_err(|error| failed(&classify(&error)))?;
    let vector = networks.recognizing.as_ref().map(vector_alone).transpose()?;
    Ok(Known { found, vector })
}

fn vector_alone(recognizing: &Recognizing) -> Result<Vec<f32>, LoadError> {
    let image = image(recognizing.config.image_size, 0);
    let vectors = recognizing.vectors(&[&image]).map_err(|error| failed(&error))?;
    vectors.into_iter().next().ok_or_else(|| wrong("there is no vector".to_owned()))
}

/// Runs the networks twice, the one for vectors also with others; and compares what they say with what is known, if
/// it is.
pub(super) fn try_engine(
    engine: &FaceFinder,
    known: Option<&Known>,
    precision: Precision,
) -> Result<(), LoadError> {
    // Those that find faces are exact whatever the precision, as far as matrix products are.
    let exact = match precision {
        Precision::Tf32 => Precision::Tf32,
        Precision::F32 | Precision::F16 | Precision::Bf16 => Precision::F32,
    };
    let probe = || engine.detector.probe(FEW).map_err(|error| failed(&classify(&error)));
    let found = probe()?;
    check(&found, &probe()?, TOLERANCE, "what finds faces changes when it runs again")?;
    if let Some(known) = known {
        check(&known.found, &found, exact.tolerance(), "what finds faces has a known answer")?;
    }
    let Some(recognizing) = &engine.recognizing else { return Ok(()) };
    let alone = vector_alone(recognizing)?;
    let length = alone.iter().map(|number| number * number).sum::<f32>().sqrt();
    if (length - 1.0).abs() > 1e-3 {
        return Err(wrong(format!("a face's vector has the length {length}")));
    }
    check(
        &alone,
        &vector_alone(recognizing)?,
        TOLERANCE,
        "a vector changes when it is made again",
    )?;
    let [first, second, third] = [0, 1, 2].map(|seed| image(recognizing.config.image_size, seed));
    let among = recognizing.vectors(&[&second, &first, &third]).map_err(|error| failed(&error))?;
    let [_, among, _] = &among[..] else {
        return Err(wrong("the number of vectors is wrong".to_owned()));
    };
    // On a GPU, batches of other sizes are other kernels, which round in another order.
    let otherwise = if known.is_some() { precision.tolerance() } else { TOLERANCE };
    check(&alone, among, otherwise, "a vector changes when it is made among others")?;
    match known.and_then(|known| known.vector.as_ref()) {
        Some(known) => check(known, &alone, precision.tolerance(), "a vector is known"),
        None => Ok(()),
    }
}

fn check(expected: &[f32], found: &[f32], tolerance: f32, what: &str) -> Result<(), LoadError> {
    let largest = difference(expected, found);
    if largest <= tolerance {
        return Ok(());
    }
    Err(wrong(format!("{what}: it is off by {largest:e}")))
}

/// On a device with memory of its own: shows the networks as much as they are ever shown at once, and halves that
/// until it fits, so that a lack of memory shows now.
pub(super) fn fit(engine: &mut FaceFinder) -> Result<(), LoadError> {
    if engine.info.device == "cpu" {
        return Ok(());
    }
    loop {
        let at_once = engine.detector.at_once;
        let tried = engine.detector.probe(at_once).map_err(|error| classify(&error));
        match (tried, at_once.halved()) {
            (Ok(_), _) => break,
            (Err(EngineError::OutOfMemory { message }), Some(half)) => {
                tracing::warn!(?at_once, now = ?half, message, "a tile does not fit: halved");
                engine.detector.at_once = half;
            }
            (Err(error), _) => return Err(failed(&error)),
        }
    }
    let Some(recognizing) = &mut engine.recognizing else { return Ok(()) };
    let image = image(recognizing.config.image_size, 0);
    loop {
        let faces = recognizing.at_once;
        match recognizing.vectors(&vec![image.as_slice(); faces]) {
            Ok(_) => return Ok(()),
            Err(EngineError::OutOfMemory { message }) if faces > 1 => {
                tracing::warn!(faces, message, "so many faces at once do not fit: halved");
                recognizing.at_once = faces / 2;
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
