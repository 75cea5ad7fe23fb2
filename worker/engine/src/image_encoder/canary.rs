//! The first runs of a loaded model, which warm it up and show that it works.

use candle_core::Device;
use stoker_core::zero_shot::DEFAULT_TEMPLATE;
use stoker_engine_api::{EngineError, Question};

use super::model::ModelConfig;
use super::{ImageEncoder, load_networks};
use crate::compare::difference;
use crate::device::classify;
use crate::images::{ImageConfig, Size};
use crate::loading::Target;
use crate::towers::Fit;
use crate::weights::WeightsFile;
use crate::{ImageTask, LoadError, Precision};

/// Largest difference of one number between two runs: an item's output does not depend on its
/// neighbors beyond rounding.
const TOLERANCE: f32 = 1e-5;

/// An image that needs no file, with all frequencies; others by other seeds.
fn image(Size { width, height }: Size, seed: usize) -> Vec<u8> {
    let byte = |place: usize| {
        let (x, y) = (place / 3 % width, place / 3 / width);
        u8::try_from(((x * 7 + y * 13 + place % 3 * 29 + seed) ^ (x * y / 8)) % 256).unwrap_or(0)
    };
    (0..width * height * 3).map(byte).collect()
}

/// The answer to the first image, computed on the CPU from the same weights.
///
/// # Errors
/// When the weights do not fit the configuration.
pub(super) fn known_answer(
    file: &WeightsFile,
    config: &ModelConfig,
    images: &ImageConfig,
) -> Result<Vec<f32>, LoadError> {
    let target = Target { device: &Device::Cpu, precision: Precision::F32 };
    let (vision, _) = load_networks(file, config, ImageTask::Embedding, target)?;
    let answers = vision.vectors(&[&image(images.seen, 0)], &images.numbers);
    let answers = answers.map_err(|error| failed(&classify(&error)))?;
    answers.into_iter().next().ok_or_else(|| wrong("the CPU gives no answer".to_owned()))
}

/// Looks at an image alone, again, and among others, and compares it with two labels; and compares what it
/// sees with the answer that is known, if one is.
pub(super) fn try_engine(
    engine: &ImageEncoder,
    known: Option<&[f32]>,
    precision: Precision,
) -> Result<(), LoadError> {
    let [first, second, third] = [0, 1, 2].map(|seed| image(engine.images.seen, seed));
    let run = |images: &[&[u8]]| engine.vectors(images).map_err(|error| failed(&error));
    let alone = run(&[&first])?;
    let again = run(&[&first])?;
    let batch = run(&[&second, &first, &third])?;
    let ([alone], [again], [_, among, _]) = (&alone[..], &again[..], &batch[..]) else {
        return Err(wrong("the number of outputs is wrong".to_owned()));
    };
    let norm = alone.iter().map(|number| number * number).sum::<f32>().sqrt();
    if (norm - 1.0).abs() > 1e-3 {
        return Err(wrong(format!("an image's embedding has the length {norm}")));
    }
    // On a GPU, batches of other sizes are other kernels, which round in another order.
    let among_others = if known.is_some() { precision.tolerance() } else { TOLERANCE };
    for (other, tolerance, when) in
        [(again, TOLERANCE, "looked at again"), (among, among_others, "looked at among others")]
    {
        let largest = difference(alone, other);
        if largest > tolerance {
            return Err(wrong(format!(
                "an image's output changes by {largest:e} when it is {when}"
            )));
        }
    }
    let largest = known.map_or(0.0, |known| difference(known, alone));
    if largest > precision.tolerance() {
        return Err(wrong(format!("a known output is off by {largest:e}")));
    }
    try_labels(engine, alone)
}

fn try_labels(engine: &ImageEncoder, image: &[f32]) -> Result<(), LoadError> {
    let Some(labels) = &engine.network.labels else { return Ok(()) };
    let names = ["cat", "dog"].map(str::to_owned).to_vec();
    let question = Question { labels: names, template: DEFAULT_TEMPLATE.to_owned() };
    let asked = labels.questions.ask(&question).map_err(|error| wrong(error.to_string()))?;
    let scores = labels.scores(image, &asked).map_err(|error| failed(&classify(&error)))?;
    let sum: f32 = scores.iter().sum();
    let good = match labels.text.comparison.fit {
        Fit::Shares => (sum - 1.0).abs() < 1e-3,
        Fit::Each { .. } => scores.iter().all(|score| (0.0..=1.0).contains(score)),
    };
    if scores.len() == 2 && good {
        return Ok(());
    }
    Err(wrong(format!("an image has the scores {scores:?}")))
}

/// On a device with memory of its own: runs the largest batch, and halves it until it fits, so that a
/// lack of memory shows now.
pub(super) fn fit_budget(engine: &mut ImageEncoder) -> Result<(), LoadError> {
    if engine.info.device == "cpu" {
        return Ok(());
    }
    let image = image(engine.images.seen, 0);
    loop {
        let budget = engine.info.max_batch_tokens;
        let images = vec![image.as_slice(); usize::try_from(budget / engine.tokens).unwrap_or(1)];
        match engine.vectors(&images) {
            Ok(_) => return Ok(()),
            Err(EngineError::OutOfMemory { message }) if budget > engine.tokens => {
                engine.info.max_batch_tokens = (budget / 2).max(engine.tokens);
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
