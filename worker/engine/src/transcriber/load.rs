//! A transcriber from a model's files.

use std::time::Instant;

use candle_core::Device;
use stoker_engine_api::{EngineInfo, LoadSeconds, TaskKind};

use super::words::Words;
use super::{Transcriber, canary};
use crate::audio::MelBank;
use crate::loading::{self, FileSeconds, Loaded, timed};
use crate::source::Source;
use crate::weights::WeightsFile;
use crate::whisper::{Whisper, WhisperConfig};
use crate::{LoadError, ModelOptions, Precision};

impl Transcriber {
    /// Loads, verifies, warms up and tries a model.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing is left behind.
    pub fn load(options: &ModelOptions) -> Result<Self, LoadError> {
        let start = Instant::now();
        let mut load = LoadSeconds::default();
        let (device, precision) = options.open()?;
        let config = WhisperConfig::read(&options.directory)?;
        let Loaded { network, beside: words, sha256 } =
            load_parts(options, config, (&device, precision), &mut load)?;
        let bank = MelBank::new(network.config().bands);
        let info = EngineInfo {
            model: options.name.clone(),
            task: TaskKind::SpeechToText,
            output_dimensions: None,
            labels: None,
            max_tokens: 0,
            max_batch_tokens: 0,
            weights_bytes: u64::try_from(network.bytes()).unwrap_or(u64::MAX),
            weights_sha256: Some(sha256),
            lanes: options.lanes_on(&device),
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

/// The network, and beside it the vocabulary.
fn load_parts(
    options: &ModelOptions,
    config: WhisperConfig,
    (device, precision): (&Device, Precision),
    load: &mut LoadSeconds,
) -> Result<Loaded<Whisper, Words>, LoadError> {
    let LoadSeconds { read, digest, build, tokenizer, .. } = load;
    let directory = &options.directory;
    let file = WeightsFile::open(directory)?;
    let of_words = config.clone();
    let words = || timed(tokenizer, || Words::read(directory, &of_words));
    let network = || {
        let weights = file.tensors()?;
        Whisper::load(&Source { weights: &weights, prefix: "", device, precision }, config)
    };
    let seconds = FileSeconds { read, build, digest };
    loading::load(&file, options.digest.as_deref(), seconds, network, words)
}
