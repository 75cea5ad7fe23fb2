//! A finder of faces from a model's files.

use std::num::NonZeroU32;
use std::time::Instant;

use candle_core::Device;
use stoker_core::face::{FaceSearch, LEAST_SMALLEST, MOST_FACES};
use stoker_engine_api::{EngineInfo, LoadSeconds, MAX_FRAME_BYTES};

use super::canary::{self, Known};
use super::{FaceFinder, FaceOptions, FaceTask, Recognizing, cost};
use crate::faces::{Detector, FacesConfig, Recognizer, RecognizerConfig};
use crate::loading::{self, FileSeconds, Loaded, timed};
use crate::source::Source;
use crate::text_encoder::default_budget;
use crate::weights::WeightsFile;
use crate::{LoadError, Precision};

/// Bytes of a face in an answer besides its vector, and somewhat more.
const FACE_BYTES: usize = 128;

/// The networks of a model.
pub(super) struct Networks {
    pub(super) detector: Detector,
    pub(super) recognizing: Option<Recognizing>,
}

impl FaceFinder {
    /// Loads, verifies, warms up and tries a model.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing is left behind.
    pub fn load(options: &FaceOptions) -> Result<Self, LoadError> {
        let start = Instant::now();
        let mut load = LoadSeconds::default();
        let config = checked(options)?;
        let (device, precision) = options.model.open()?;
        let Loaded { network, beside: known, sha256 } =
            load_networks(options, &config, (&device, precision), &mut load)?;
        let Networks { detector, recognizing } = network;
        let dimensions = recognizing.as_ref().map(|it| it.config.dimensions);
        let weights = recognizing.as_ref().map_or(0, |it| it.network.bytes()) + detector.bytes();
        let search = FaceSearch::of(LEAST_SMALLEST, MOST_FACES);
        let info = EngineInfo {
            model: options.model.name.clone(),
            task: options.task.kind(),
            output_dimensions: dimensions.and_then(|width| u32::try_from(width).ok()),
            labels: None,
            max_tokens: cost(options.limits.max_pixels, search, options.task),
            max_batch_tokens: budget(options.max_batch_tokens, dimensions, &device),
            weights_bytes: u64::try_from(weights).unwrap_or(u64::MAX),
            weights_sha256: Some(sha256),
            lanes: options.model.lanes_on(&device),
            device: options.model.device.to_string(),
            load: LoadSeconds::default(),
        };
        let (task, limits) = (options.task, options.limits);
        let mut engine = Self { info, task, limits, detector, recognizing };
        timed(&mut load.warm_up, || {
            canary::try_engine(&engine, known.as_ref(), precision)?;
            canary::fit(&mut engine)
        })?;
        load.elapsed = start.elapsed().as_secs_f64();
        engine.info.load = load;
        Ok(engine)
    }
}

/// The configuration, without what the task has no use for.
fn checked(options: &FaceOptions) -> Result<FacesConfig, LoadError> {
    let config = FacesConfig::read(&options.model.directory)?;
    match options.task {
        FaceTask::Detection => Ok(FacesConfig { recognizer: None, ..config }),
        FaceTask::Embedding if config.recognizer.is_some() => Ok(config),
        FaceTask::Embedding => {
            let path = options.model.directory.join("config.json");
            let what = "has no recognizer: this model finds faces and makes no vectors".to_owned();
            Err(LoadError::Unsupported { path, what })
        }
    }
}

/// Tokens of a batch: not so many that its answer could be too long. An image has at least a token for each face.
fn budget(asked: Option<NonZeroU32>, dimensions: Option<usize>, device: &Device) -> u32 {
    let face = dimensions.unwrap_or(0) * size_of::<f32>() + FACE_BYTES;
    let most = u32::try_from(MAX_FRAME_BYTES / 4 * 3 / face).unwrap_or(u32::MAX);
    asked.map_or_else(|| default_budget(device), u32::from).min(most)
}

/// The networks, and on a GPU what a CPU makes of the canary.
fn load_networks(
    options: &FaceOptions,
    config: &FacesConfig,
    (device, precision): (&Device, Precision),
    load: &mut LoadSeconds,
) -> Result<Loaded<Networks, Option<Known>>, LoadError> {
    let LoadSeconds { read, digest, build, .. } = load;
    let file = WeightsFile::open(&options.model.directory)?;
    let answer = || {
        let cpu = networks(&file.separately(), config, (&Device::Cpu, Precision::F32))?;
        canary::known_answer(&cpu)
    };
    let known = || loading::known_for(device, answer);
    let networks = || networks(&file, config, (device, precision));
    let seconds = FileSeconds { read, build, digest };
    loading::load(&file, options.model.digest.as_deref(), seconds, networks, known)
}

fn networks(
    file: &WeightsFile,
    config: &FacesConfig,
    (device, precision): (&Device, Precision),
) -> Result<Networks, LoadError> {
    let weights = file.tensors()?;
    let source = Source { weights: &weights, prefix: "", device, precision };
    let detector = Detector::load(&source, config.detector)?;
    let recognizer = |config: RecognizerConfig| {
        let network = Recognizer::load(&source, &config)?;
        let at_once = if device.is_cpu() { 4 } else { 64 };
        Ok(Recognizing { network, config, device: device.clone(), at_once })
    };
    let recognizing = config.recognizer.map(recognizer).transpose()?;
    Ok(Networks { detector, recognizing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faces_of_a_batch_fit_into_an_answer() {
        for dimensions in [None, Some(32), Some(512), Some(8_192)] {
            let most = budget(NonZeroU32::new(u32::MAX), dimensions, &Device::Cpu);
            let face = dimensions.unwrap_or(0) * 4 + FACE_BYTES;
            assert!(usize::try_from(most).unwrap() * face < MAX_FRAME_BYTES, "{dimensions:?}");
            assert!(most >= 1_000, "{dimensions:?}");
        }
        assert_eq!(budget(None, Some(512), &Device::Cpu), default_budget(&Device::Cpu));
        assert_eq!(budget(NonZeroU32::new(7), Some(512), &Device::Cpu), 7);
    }
}
