//! A generator from a model's files, in either format.

use std::path::PathBuf;
use std::time::Instant;

use candle_core::Device;
use stoker_engine_api::{EngineInfo, LoadSeconds, TaskKind};

use super::steps::Steps;
use super::{Generator, GeneratorOptions, canary};
use crate::decoder::{
    Decoder, DecoderConfig, DecoderFile, from_gguf, gguf_parts, safetensors_parts,
};
use crate::generation::Room;
use crate::gguf::{self, Gguf};
use crate::loading::{self, FileSeconds, Loaded, timed};
use crate::source::Source;
use crate::vocabulary::{self, Vocabulary};
use crate::weights::WeightsFile;
use crate::{LoadError, Precision};

/// Sequences at the same time. Weights are read once for the tokens of all: eight make several times the tokens of one.
const LANES_CPU: u32 = 8;
const LANES_GPU: u32 = 16;

/// Tokens of a step: enough to make products efficient, few enough that a long prompt does not keep
/// those waiting that generate.
const STEP_TOKENS_CPU: usize = 64;
const STEP_TOKENS_GPU: usize = 1_024;

/// Memory for the tokens of all sequences together.
const CACHE_MEBIBYTES_CPU: u32 = 1_024;
const CACHE_MEBIBYTES_GPU: u32 = 4_096;

impl Generator {
    /// Loads, verifies, warms up and tries a model.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing is left behind.
    pub fn load(options: &GeneratorOptions) -> Result<Self, LoadError> {
        let start = Instant::now();
        let mut load = LoadSeconds::default();
        let (device, precision) = options.model.open()?;
        let Loaded { network: decoder, beside: vocabulary, sha256 } =
            match gguf::find(&options.model.directory)? {
                Some(path) => load_gguf(options, path, &device, &mut load)?,
                None => load_safetensors(options, &device, precision, &mut load)?,
            };
        let (info, room) = figures(options, &decoder, sha256);
        let mut engine = Self { info, vocabulary, steps: Steps::new(decoder, room) };
        timed(&mut load.warm_up, || canary::try_engine(&engine))?;
        load.elapsed = start.elapsed().as_secs_f64();
        engine.info.load = load;
        Ok(engine)
    }
}

fn load_gguf(
    options: &GeneratorOptions,
    path: PathBuf,
    device: &Device,
    load: &mut LoadSeconds,
) -> Result<Loaded<Decoder, Vocabulary>, LoadError> {
    let LoadSeconds { read, digest, build, tokenizer, .. } = load;
    let file = WeightsFile::open_gguf(path)?;
    let gguf = Gguf::open(&file)?;
    let config = from_gguf(&gguf)?;
    let (directory, words) = (&options.model.directory, config.vocabulary);
    let vocabulary = || timed(tokenizer, || vocabulary::from_gguf(directory, &gguf, words));
    let decoder = || Decoder::load(&gguf_parts(&gguf, device), config);
    let seconds = FileSeconds { read, build, digest };
    loading::load(&file, options.model.digest.as_deref(), seconds, decoder, vocabulary)
}

fn load_safetensors(
    options: &GeneratorOptions,
    device: &Device,
    precision: Precision,
    load: &mut LoadSeconds,
) -> Result<Loaded<Decoder, Vocabulary>, LoadError> {
    let LoadSeconds { read, digest, build, tokenizer, .. } = load;
    let directory = &options.model.directory;
    let config_file = DecoderFile::read(directory)?;
    let config = DecoderConfig::from_file(&config_file)
        .map_err(|what| LoadError::Unsupported { path: directory.join("config.json"), what })?;
    let (ends, words) = (config_file.eos_token_id.as_ref(), config.vocabulary);
    let file = WeightsFile::open(directory)?;
    let vocabulary = || timed(tokenizer, || vocabulary::from_files(directory, words, ends));
    let decoder = || {
        let weights = file.tensors()?;
        let source = Source { weights: &weights, prefix: "", device, precision };
        Decoder::load(&safetensors_parts(source), config)
    };
    let seconds = FileSeconds { read, build, digest };
    loading::load(&file, options.model.digest.as_deref(), seconds, decoder, vocabulary)
}

/// What the engine says of itself, and how much it works on at the same time.
fn figures(options: &GeneratorOptions, decoder: &Decoder, sha256: String) -> (EngineInfo, Room) {
    let cpu = decoder.device().is_cpu();
    let (lanes, step_tokens, cache) = if cpu {
        (LANES_CPU, STEP_TOKENS_CPU, CACHE_MEBIBYTES_CPU)
    } else {
        (LANES_GPU, STEP_TOKENS_GPU, CACHE_MEBIBYTES_GPU)
    };
    let lanes = options.model.lanes.map_or(lanes, u32::from);
    let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let step_tokens = options.step_tokens.map_or(step_tokens, |tokens| size(tokens.get()));
    let cache = size(options.cache_mebibytes.map_or(cache, u32::from)).saturating_mul(1 << 20);
    let cache_tokens = cache / decoder.cache_bytes_per_token().max(1);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    // A longer one would never find room.
    let max_tokens = count(decoder.config().context.min(cache_tokens).max(2));
    let info = EngineInfo {
        model: options.model.name.clone(),
        task: TaskKind::TextGeneration,
        output_dimensions: None,
        labels: None,
        max_tokens,
        max_batch_tokens: max_tokens,
        weights_bytes: u64::try_from(decoder.bytes()).unwrap_or(u64::MAX),
        weights_sha256: Some(sha256),
        lanes,
        device: options.model.device.to_string(),
        load: LoadSeconds::default(),
    };
    (info, Room::new(step_tokens, cache_tokens, size(lanes)))
}
