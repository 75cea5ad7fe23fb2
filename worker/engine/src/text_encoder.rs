//! An encoder of texts as an engine: embedding and classification.

mod canary;

use std::fmt;
use std::num::NonZeroU32;
use std::time::Instant;

use candle_core::Device;
use stoker_engine_api::{
    Engine, EngineError, EngineInfo, ItemError, ItemInput, ItemOutput, LoadSeconds, Prepared as _,
};

use crate::config::{DefaultPrompt, EncoderTask, HeadConfig, ModelConfig};
use crate::device::{self, classify};
use crate::encoder::PackedEncoder;
use crate::head::Head;
use crate::loading::{self, FileSeconds, Loaded, Target, timed};
use crate::source::Source;
use crate::tokens::{Length, Reading, TextTokenizer, Tokens};
use crate::weights::WeightsFile;
use crate::{LoadError, ModelOptions};

/// Tokens that a CPU core works on at a time: enough rows to make the products efficient, few
/// enough that what lies between them stays in the cache.
pub(crate) const CPU_TILE_TOKENS: usize = 512;

/// What to load and how to run it.
#[derive(Debug, Clone)]
pub struct TextOptions {
    pub model: ModelOptions,
    pub task: EncoderTask,
    pub default_prompt: DefaultPrompt,
    /// Sum of costs that a batch should stay within; by default what suits the device.
    pub max_batch_tokens: Option<NonZeroU32>,
}

/// A loaded model.
pub struct TextEncoder {
    info: EngineInfo,
    tokenizer: TextTokenizer,
    network: Network,
    /// Tokens of one forward pass.
    tile_tokens: usize,
}

impl fmt::Debug for TextEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextEncoder").field("info", &self.info).finish_non_exhaustive()
    }
}

impl TextEncoder {
    /// Loads, verifies, warms up and tries a model.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing is left behind.
    pub fn load(options: &TextOptions) -> Result<Self, LoadError> {
        let start = Instant::now();
        let mut load = LoadSeconds::default();
        let config =
            ModelConfig::read(&options.model.directory, options.task, options.default_prompt)?;
        let (device, precision) = options.model.open()?;
        let target = Target { device: &device, precision };
        let Loaded { network, beside: (known, tokenizer), sha256 } =
            load_parts(options, &config, target, &mut load)?;
        let max_batch_tokens =
            options.max_batch_tokens.map_or_else(|| default_budget(&device), u32::from);
        let max_tokens = u32::try_from(config.max_tokens).unwrap_or(u32::MAX);
        let info = EngineInfo {
            model: options.model.name.clone(),
            task: options.task.kind(),
            output_dimensions: output_dimensions(&config),
            labels: network.head.labels().cloned(),
            max_tokens,
            max_batch_tokens: max_batch_tokens.max(max_tokens),
            weights_bytes: u64::try_from(network.bytes()).unwrap_or(u64::MAX),
            weights_sha256: Some(sha256),
            lanes: options.model.lanes_on(&device),
            device: options.model.device.to_string(),
            load: LoadSeconds::default(),
        };
        let tile_tokens = if device.is_cpu() { CPU_TILE_TOKENS } else { usize::MAX };
        let mut engine = Self { info, tokenizer, network, tile_tokens };
        timed(&mut load.warm_up, || {
            canary::try_engine(&engine, known.as_ref(), precision)?;
            canary::fit_budget(&mut engine)
        })?;
        load.elapsed = start.elapsed().as_secs_f64();
        engine.info.load = load;
        Ok(engine)
    }

    /// What the network says of texts given as token ids.
    fn numbers(&self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, EngineError> {
        device::finite(self.network.numbers(texts).map_err(|error| classify(&error))?)
    }
}

impl Engine for TextEncoder {
    type Prepared = Tokens;

    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn prepare(&self, input: ItemInput) -> Result<Tokens, ItemError> {
        match input {
            ItemInput::Text(text) => self.tokenizer.encode(&text),
            other @ (ItemInput::Generation(_)
            | ItemInput::Image(_)
            | ItemInput::Caption(_)
            | ItemInput::Faces(_)
            | ItemInput::Recording(_)) => {
                Err(ItemError::wrong_kind(self.info.task, "text", &other))
            }
        }
    }

    fn run(&self, items: &[&Tokens]) -> Result<Vec<ItemOutput>, EngineError> {
        let mut outputs = Vec::with_capacity(items.len());
        let mut rest = items;
        while !rest.is_empty() {
            let (tile, after) = rest.split_at(tile_length(rest, self.tile_tokens));
            let texts: Vec<&[u32]> = tile.iter().map(|item| item.ids.as_slice()).collect();
            let numbers = self.numbers(&texts)?.into_iter().zip(tile);
            outputs.extend(numbers.map(|(numbers, text)| self.network.head.output(numbers, text)));
            rest = after;
        }
        Ok(outputs)
    }
}

/// How many of the first items fit into a tile; at least one.
fn tile_length(items: &[&Tokens], tile_tokens: usize) -> usize {
    let mut tokens = 0;
    let over = items.iter().position(|item| {
        tokens += usize::try_from(item.cost()).unwrap_or(usize::MAX);
        tokens > tile_tokens
    });
    over.unwrap_or(items.len()).max(1)
}

/// All that has weights.
struct Network {
    encoder: PackedEncoder,
    head: Head,
}

impl Network {
    /// # Errors
    /// When the weights do not fit the configuration or the target.
    fn load(
        file: &WeightsFile,
        config: &ModelConfig,
        target: Target<'_>,
    ) -> Result<Self, LoadError> {
        let Target { device, precision } = target;
        let weights = file.tensors()?;
        // Models saved with a task's head on top carry the network's name in front.
        let prefix = config.encoder.family.prefix();
        let named = weights.has(&format!("{prefix}embeddings.word_embeddings.weight"));
        let top = Source { weights: &weights, prefix: "", device, precision };
        let network = Source { prefix: if named { prefix } else { "" }, ..top };
        let head = Head::load(&network, &top, &config.encoder, &config.head)?;
        Ok(Self { encoder: PackedEncoder::load(&network, &config.encoder)?, head })
    }

    /// Memory that all tensors take together.
    fn bytes(&self) -> usize {
        self.encoder.bytes() + self.head.bytes()
    }

    /// What the head makes of each text.
    fn numbers(&self, texts: &[&[u32]]) -> candle_core::Result<Vec<Vec<f32>>> {
        let places = self.encoder.texts(texts)?;
        self.head.numbers(&self.encoder.forward(texts, &places)?, &places)
    }
}

/// The network, on a GPU a CPU's answer to the canary, and the tokenizer. All these and the digest have a thread each, since
/// they are as slow as each other.
fn load_parts(
    options: &TextOptions,
    config: &ModelConfig,
    target: Target<'_>,
    load: &mut LoadSeconds,
) -> Result<Loaded<Network, (Option<canary::Known>, TextTokenizer)>, LoadError> {
    let LoadSeconds { read, digest, build, tokenizer, .. } = load;
    let directory = &options.model.directory;
    let file = WeightsFile::open(directory)?;
    let answer = || canary::known_answer(&file.separately(), config);
    let known = || loading::known_for(target.device, answer);
    let tokenizer = || timed(tokenizer, || TextTokenizer::load(directory, reading(config)));
    let beside = || loading::both(known, tokenizer);
    let network = || Network::load(&file, config, target);
    let seconds = FileSeconds { read, build, digest };
    loading::load(&file, options.model.digest.as_deref(), seconds, network, beside)
}

const fn reading(config: &ModelConfig) -> Reading {
    Reading {
        lowercase: config.lowercase,
        max_tokens: config.max_tokens,
        vocabulary: config.encoder.vocabulary,
        length: Length::Own,
    }
}

fn output_dimensions(config: &ModelConfig) -> Option<u32> {
    match config.head {
        HeadConfig::Vector { .. } => u32::try_from(config.encoder.hidden).ok(),
        HeadConfig::Scores(_) => None,
    }
}

pub(crate) fn default_budget(device: &Device) -> u32 {
    if device.is_cpu() { 2_048 } else { 16_384 }
}
