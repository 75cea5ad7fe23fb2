//! A decoder of the Llama family: tokens of several sequences in one matrix, keys and values of each
//! sequence in a cache of its own.
//!
//! Every product works on that matrix; only attention knows where one sequence ends. On a CPU no number
//! depends on what else is in the matrix.

pub(crate) mod attention;
mod cache;
mod config;
mod cores;
pub(crate) mod linear;
mod load;
mod rope;
pub(crate) mod seen;

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::ops::{rms_norm, silu};

pub(crate) use cache::KvCache;
pub(crate) use config::{Biases, DecoderConfig, DecoderFile, TokenIds, from_gguf};
pub(crate) use load::{gguf_parts, safetensors_parts};

use attention::attend;
use cores::Cores;
use linear::{Linear, Table};
use rope::Rotation;

/// A loaded network. Immutable; the caches belong to the sequences.
pub(crate) struct Decoder {
    config: DecoderConfig,
    device: Device,
    /// Type of activations, and of what is kept of them.
    dtype: DType,
    words: Table,
    layers: Vec<Layer>,
    norm: Tensor,
    /// The vocabulary's rows are used for it where a model has no such tensor.
    output: Linear,
    rotation: Rotation,
    /// The threads of a step; `None` where the device has its own.
    cores: Option<Cores>,
}

struct Layer {
    /// Its place in the network, and in caches.
    index: usize,
    attention_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    /// Norms of each head's queries and keys, in families that have them.
    head_norms: Option<(Tensor, Tensor)>,
    attention_out: Linear,
    mlp_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// A sequence's part in a step.
pub(crate) struct StepPart<'a> {
    pub(crate) cache: &'a mut KvCache,
    /// Its next tokens, at least one.
    pub(crate) tokens: &'a [u32],
    /// Whether what follows the last of them is wanted.
    pub(crate) generates: bool,
}

impl Decoder {
    pub(crate) const fn config(&self) -> &DecoderConfig {
        &self.config
    }

    pub(crate) const fn device(&self) -> &Device {
        &self.device
    }

    /// Memory that all tensors take together.
    pub(crate) fn bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(Layer::bytes).sum();
        layers + self.words.bytes() + self.output.bytes()
    }

    /// Memory that a token takes in a cache.
    pub(crate) fn cache_bytes_per_token(&self) -> usize {
        let row = self.config.kv_heads * self.config.head_width;
        2 * self.layers.len() * row * self.dtype.size_in_bytes()
    }

    /// An empty cache for a sequence of at most `tokens`.
    pub(crate) fn cache(&self, tokens: usize) -> Result<KvCache> {
        KvCache::new(&self.config, tokens, self.dtype, &self.device)
    }

    /// Shows the network the next tokens of each sequence. Gives, for each that generates and in their
    /// order, one number per token of the vocabulary. After an error the caches are as they were.
    pub(crate) fn step(&self, parts: &mut [StepPart<'_>]) -> Result<Vec<Vec<f32>>> {
        match &self.cores {
            Some(cores) => cores.run(|| self.step_here(parts)),
            None => self.step_here(parts),
        }
    }

    fn step_here(&self, parts: &mut [StepPart<'_>]) -> Result<Vec<Vec<f32>>> {
        let tokens: Vec<u32> = parts.iter().flat_map(|part| part.tokens).copied().collect();
        let places = places(parts)?;
        let rotation = self.rotation.at(&places)?;
        let mut x = self.words.rows(&tokens, self.dtype)?;
        for layer in &self.layers {
            let y = rms_norm(&x, &layer.attention_norm, self.config.epsilon)?;
            let attended = self.attention(layer, &y, parts, &rotation)?;
            x = (x + layer.attention_out.forward(&attended)?)?;
            let y = rms_norm(&x, &layer.mlp_norm, self.config.epsilon)?;
            let wide = (silu(&layer.gate.forward(&y)?)? * layer.up.forward(&y)?)?;
            x = (x + layer.down.forward(&wide)?)?;
        }
        let wanted = last_rows(parts)?;
        let logits = if wanted.is_empty() {
            Vec::new()
        } else {
            let rows = Tensor::new(wanted, &self.device)?;
            let x = rms_norm(&x.index_select(&rows, 0)?, &self.norm, self.config.epsilon)?;
            self.output.forward(&x)?.to_dtype(DType::F32)?.to_vec2()?
        };
        for part in parts {
            part.cache.advance(part.tokens.len());
        }
        Ok(logits)
    }

    fn attention(
        &self,
        layer: &Layer,
        x: &Tensor,
        parts: &mut [StepPart<'_>],
        rotation: &rope::Rotated,
    ) -> Result<Tensor> {
        let DecoderConfig { heads, kv_heads, head_width, window, epsilon, .. } = self.config;
        let tokens = x.dim(0)?;
        let split = |x: Tensor, heads: usize| x.reshape((tokens, heads, head_width));
        let mut query = split(layer.query.forward(x)?, heads)?;
        let mut key = split(layer.key.forward(x)?, kv_heads)?;
        let value = split(layer.value.forward(x)?, kv_heads)?;
        if let Some((query_norm, key_norm)) = &layer.head_norms {
            query = rms_norm(&query, query_norm, epsilon)?;
            key = rms_norm(&key, key_norm, epsilon)?;
        }
        let (query, key) = (rotation.turn(&query)?, rotation.turn(&key)?);
        let mut outputs = Vec::with_capacity(parts.len());
        let mut first = 0;
        for part in parts {
            let count = part.tokens.len();
            let rows = |x: &Tensor| x.narrow(0, first, count)?.contiguous();
            part.cache.put(layer.index, &rows(&key)?, &rows(&value)?)?;
            let (keys, values) = part.cache.with(layer.index, count)?;
            outputs.push(attend(&rows(&query)?, &keys, &values, window)?);
            first += count;
        }
        let all = if outputs.len() == 1 { outputs.remove(0) } else { Tensor::cat(&outputs, 0)? };
        all.reshape((tokens, heads * head_width))
    }
}

impl Layer {
    fn bytes(&self) -> usize {
        let Self { query, key, value, attention_out, gate, up, down, .. } = self;
        [query, key, value, attention_out, gate, up, down].iter().map(|linear| linear.bytes()).sum()
    }
}

/// The place of each token in its sequence.
fn places(parts: &[StepPart<'_>]) -> Result<Vec<u32>> {
    let mut places = Vec::new();
    for part in parts {
        let (begin, end) = (part.cache.len(), part.cache.len() + part.tokens.len());
        if part.tokens.is_empty() || end > part.cache.capacity() {
            bail!("tokens {begin} to {end} of a sequence with room for {}", part.cache.capacity());
        }
        for place in begin..end {
            places.push(u32::try_from(place)?);
        }
    }
    Ok(places)
}

/// The rows of the last tokens of sequences that generate.
fn last_rows(parts: &[StepPart<'_>]) -> Result<Vec<u32>> {
    let mut rows = Vec::new();
    let mut end = 0_usize;
    for part in parts {
        end += part.tokens.len();
        if part.generates {
            rows.push(u32::try_from(end - 1)?);
        }
    }
    Ok(rows)
}
