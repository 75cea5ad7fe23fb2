//! A transcriber from a model's files.

use std::thread;
use std::time::Instant;

use candle_core::Device;
use stoker_engine_api::{EngineInfo, LoadSeconds, TaskKind};

use super::words::Words;
use super::{Transcriber, TranscriberOptions, canary};
use crate::audio::MelBank;
use crate::loading::{self, FileSeconds, timed};
use crate::source::Source;
use crate::weights::WeightsFile;
use crate::whisper::{Whisper, WhisperConfig};
use crate::{LoadError, Precision, device};

/// One computes while the other decodes its next window.
const LANES_GPU: u32 = 2;

impl Transcriber {
    /// Loads, verifies, warms up and tries a model.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing is left behind.
    pub fn load(options: &TranscriberOptions) -> Result<Self, LoadError> {
        let start = Instant::now();
        let mut load = LoadSeconds::default();
        let device = options.device.open()?;
        let precision = device::apply(options.precision, &device);
        let config = WhisperConfig::read(&options.directory)?;
        let words = timed(&mut load.tokenizer, || Words::read(&options.directory, &config))?;
        let (network, sha256) = network(options, config, (&device, precision), &mut load)?;
        let bank = MelBank::new(network.config().bands);
        let info = EngineInfo {
            model: options.model.clone(),
            task: TaskKind::SpeechToText,
            output_dimensions: None,
            labels: None,
            max_tokens: 0,
            max_batch_tokens: 0,
            weights_bytes: u64::try_from(network.bytes()).unwrap_or(u64::MAX),
            weights_sha256: Some(sha256),
            lanes: options.lanes.map_or_else(|| default_lanes(&device), u32::from),
            device: options.device.to_string(),
            load: LoadSeconds::default(),
        };
        let mut engine = Self { info, network, words, bank };
        // A recording is a batch of its own, however long.
        engine.info.max_tokens = engine.most();
        engine.info.max_batch_tokens = engine.info.max_tokens;
        timed(&mut load.warm_up, || canary::try_engine(&engine))?;
        load.elapsed = start.elapsed().as_secs_f64();
        engine.info.load = load;
        Ok(engine)
    }
}

fn network(
    options: &TranscriberOptions,
    config: WhisperConfig,
    (device, precision): (&Device, Precision),
    load: &mut LoadSeconds,
) -> Result<(Whisper, String), LoadError> {
    let LoadSeconds { read, digest, build, .. } = load;
    let file = WeightsFile::open(&options.directory)?;
    let network = || {
        let weights = file.tensors()?;
        Whisper::load(&Source { weights: &weights, prefix: "", device, precision }, config)
    };
    let seconds = FileSeconds { read, build, digest };
    let loaded = loading::load(&file, options.digest.as_deref(), seconds, network, || Ok(()))?;
    Ok((loaded.network, loaded.sha256))
}

/// Recordings side by side use the cores of a CPU better than threads inside each.
fn default_lanes(device: &Device) -> u32 {
    if !device.is_cpu() {
        return LANES_GPU;
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores).unwrap_or(u32::MAX)
}
