//! An encoder of the BERT family without padding: the tokens of all texts of a batch form one
//! matrix.
//!
//! Every product works on that matrix; only attention and what follows the network know where one
//! text ends.

mod config;
mod names;

use candle_core::{Result, Tensor};

pub(crate) use config::NetworkFile;
pub use config::{EncoderConfig, Family};

use crate::source::{Source, bytes};
use crate::texts::Texts;
use crate::{LoadError, ops};

/// A loaded network. Immutable; any number of threads may use it at the same time.
pub(crate) struct PackedEncoder {
    words: Tensor,
    /// Positions with the vector of the only token type that texts have already added.
    positions: Tensor,
    first_position: u32,
    embedding_norm: Tensor,
    layers: Vec<Layer>,
    heads: usize,
    epsilon: f32,
}

struct Layer {
    /// Queries, keys and values side by side, ready to multiply from the right.
    qkv: Tensor,
    qkv_bias: Tensor,
    attention_out: Tensor,
    attention_norm: Tensor,
    up: Tensor,
    up_bias: Tensor,
    down: Tensor,
    output_norm: Tensor,
}

impl PackedEncoder {
    /// Takes the network out of its weights and moves it to the source's device. On a CPU the
    /// precision must be f32.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, a number is too large for the precision, or
    /// the device has no memory for it or no kernels for its shape.
    pub(crate) fn load(
        source: &Source<'_>,
        config: &EncoderConfig,
    ) -> std::result::Result<Self, LoadError> {
        ops::check_sizes(config.hidden, config.wide, config.heads, source.device)?;
        let words = [config.vocabulary, config.hidden];
        let layers = (0..config.layers).map(|index| Layer::load(source, config, index));
        Ok(Self {
            words: source
                .table(source.floats("embeddings.word_embeddings.weight", &words)?, &words)?,
            positions: positions(source, config)?,
            first_position: u32::try_from(config.first_position).unwrap_or(u32::MAX),
            embedding_norm: source.norm(None, "embeddings.LayerNorm", config.hidden)?,
            layers: layers.collect::<std::result::Result<_, _>>()?,
            heads: config.heads,
            // The value is a small power of ten.
            #[expect(clippy::cast_possible_truncation, reason = "see above")]
            epsilon: config.epsilon as f32,
        })
    }

    /// Memory that all tensors take together.
    pub(crate) fn bytes(&self) -> usize {
        let layers = self.layers.iter().flat_map(Layer::tensors);
        let embeddings = [&self.words, &self.positions, &self.embedding_norm];
        embeddings.into_iter().chain(layers).map(bytes).sum()
    }

    /// Where the texts of a batch lie, on this network's device.
    pub(crate) fn texts(&self, texts: &[&[u32]]) -> Result<Texts> {
        Texts::new(texts.iter().map(|text| text.len()).collect(), self.words.device())
    }

    /// The last layer's vectors, one row per token, in the order of the texts; `places` are theirs.
    pub(crate) fn forward(&self, texts: &[&[u32]], places: &Texts) -> Result<Tensor> {
        let device = self.words.device();
        let tokens = places.tokens();
        let ids: Vec<u32> = texts.concat();
        let positions: Vec<u32> =
            texts.iter().flat_map(|text| (self.first_position..).take(text.len())).collect();
        let words = ops::take_rows(&self.words, &Tensor::from_vec(ids, tokens, device)?)?;
        let positions = Tensor::from_vec(positions, tokens, device)?;
        let positions = ops::take_rows(&self.positions, &positions)?;
        let mut x = ops::bias_residual_norm(words, &positions, &self.embedding_norm, self.epsilon)?;
        for layer in &self.layers {
            let qkv = x.matmul(&layer.qkv)?;
            let mixed = ops::packed_attention(&qkv, &layer.qkv_bias, places, self.heads)?;
            x = layer.finish(&x, &mixed, self.epsilon)?;
        }
        Ok(x)
    }
}

impl Layer {
    fn load(
        source: &Source<'_>,
        config: &EncoderConfig,
        index: usize,
    ) -> std::result::Result<Self, LoadError> {
        let (hidden, wide) = (config.hidden, config.wide);
        let names = config.family.layer(index);
        let mut qkv = Vec::with_capacity(3 * hidden * hidden);
        let mut qkv_bias = Vec::with_capacity(3 * hidden);
        for layer in &names.qkv {
            qkv.extend(source.floats(&format!("{layer}.weight"), &[hidden, hidden])?);
            qkv_bias.extend(source.floats(&format!("{layer}.bias"), &[hidden])?);
        }
        let norm = |layer: &str, norm: &str| source.norm(Some(layer), norm, hidden);
        Ok(Self {
            qkv: source.matrix(&qkv, hidden)?,
            qkv_bias: source.tensor(qkv_bias, &[3 * hidden])?,
            attention_out: source.linear(&names.attention_out, hidden, hidden)?,
            attention_norm: norm(&names.attention_out, &names.attention_norm)?,
            up: source.linear(&names.up, hidden, wide)?,
            up_bias: source.bias(&names.up, wide)?,
            down: source.linear(&names.down, wide, hidden)?,
            output_norm: norm(&names.down, &names.output_norm)?,
        })
    }

    /// Everything after attention.
    fn finish(&self, x: &Tensor, mixed: &Tensor, epsilon: f32) -> Result<Tensor> {
        let attended = mixed.matmul(&self.attention_out)?;
        let x = ops::bias_residual_norm(attended, x, &self.attention_norm, epsilon)?;
        let wide = ops::bias_gelu(x.matmul(&self.up)?, &self.up_bias)?;
        let narrow = wide.matmul(&self.down)?;
        ops::bias_residual_norm(narrow, &x, &self.output_norm, epsilon)
    }

    fn tensors(&self) -> [&Tensor; 8] {
        [
            &self.qkv,
            &self.qkv_bias,
            &self.attention_out,
            &self.attention_norm,
            &self.up,
            &self.up_bias,
            &self.down,
            &self.output_norm,
        ]
    }
}

/// The table of positions, with the vector of the first token type added to each where there are any.
fn positions(
    source: &Source<'_>,
    config: &EncoderConfig,
) -> std::result::Result<Tensor, LoadError> {
    let shape = [config.positions, config.hidden];
    let mut numbers = source.floats("embeddings.position_embeddings.weight", &shape)?;
    if config.token_types > 0 {
        let types = [config.token_types, config.hidden];
        let types = source.floats("embeddings.token_type_embeddings.weight", &types)?;
        for row in numbers.chunks_exact_mut(config.hidden) {
            for (number, add) in row.iter_mut().zip(&types) {
                *number += add;
            }
        }
    }
    source.table(numbers, &shape)
}
