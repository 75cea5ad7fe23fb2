//! The decoder: tokens that see those before them, and everything that was heard.

use candle_core::{DType, Result, Tensor, bail};

use super::{Norm, Source, WhisperConfig, bytes};
use crate::decoder::KvCache;
use crate::decoder::attention::attend;
use crate::decoder::linear::{Bias, Linear};
use crate::decoder::seen::Seen;
use crate::{LoadError, ops};

pub(super) struct Decoder {
    words: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: Norm,
    /// The rows of the vocabulary once more.
    output: Linear,
    heads: usize,
    context: usize,
}

struct Layer {
    attention: Attention,
    heard: Attention,
    mlp_norm: Norm,
    up: Linear,
    up_bias: Tensor,
    down: Linear,
}

struct Attention {
    norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
}

/// A text that is being written: what was heard, and the keys and values of its tokens.
pub(crate) struct Writing {
    heard: Vec<Seen>,
    cache: KvCache,
}

impl Decoder {
    pub(super) fn load(
        source: &Source<'_>,
        config: &WhisperConfig,
    ) -> std::result::Result<Self, LoadError> {
        let hidden = config.hidden;
        let words = [config.vocabulary, hidden];
        let numbers = source.floats("model.decoder.embed_tokens.weight", &words)?;
        let places = [config.context, hidden];
        let positions = source.floats("model.decoder.embed_positions.weight", &places)?;
        let layers = (0..config.decoder.layers).map(|index| Layer::load(source, config, index));
        Ok(Self {
            words: source.table(numbers.clone(), &words)?,
            output: Linear::over(source, numbers, hidden, None)?,
            positions: source.table(positions, &places)?,
            layers: layers.collect::<std::result::Result<_, _>>()?,
            norm: Norm::load(source, "model.decoder.layer_norm", hidden)?,
            heads: config.decoder.heads,
            context: config.context,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(Layer::bytes).sum();
        bytes(&self.words) + bytes(&self.positions) + self.output.bytes() + layers
    }

    pub(super) fn begin(&self, heard: &Tensor) -> Result<Writing> {
        let split = |x: Tensor| {
            let (places, hidden) = x.dims2()?;
            x.reshape((places, self.heads, hidden / self.heads))
        };
        let layer = |layer: &Layer| {
            let keys = split(layer.heard.key.forward(heard)?)?;
            let values = split(layer.heard.value.forward(heard)?)?;
            Seen::new(&keys, &values)
        };
        let layers: Vec<Seen> = self.layers.iter().map(layer).collect::<Result<_>>()?;
        let hidden = heard.dim(1)?;
        let row = (self.context, self.heads, hidden / self.heads);
        let cache = KvCache::of_rows(layers.len(), row, heard.dtype(), heard.device())?;
        Ok(Writing { heard: layers, cache })
    }

    pub(super) fn step(&self, writing: &mut Writing, tokens: &[u32]) -> Result<Vec<f32>> {
        let Writing { heard, cache } = writing;
        let (first, count) = (cache.len(), tokens.len());
        if count == 0 || first + count > cache.capacity() {
            bail!("tokens {first} to {} of {}", first + count, cache.capacity())
        }
        let ids = Tensor::new(tokens, self.words.device())?;
        let words = ops::take_rows(&self.words, &ids)?;
        let mut x = (words + self.positions.narrow(0, first, count)?)?;
        for (index, (layer, heard)) in self.layers.iter().zip(heard.iter()).enumerate() {
            x = layer.forward(x, (index, cache), heard, self.heads)?;
        }
        cache.advance(count);
        let last = self.norm.forward(&x.narrow(0, count - 1, 1)?.contiguous()?)?;
        self.output.forward(&last)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
    }
}

impl Layer {
    fn load(
        source: &Source<'_>,
        config: &WhisperConfig,
        index: usize,
    ) -> std::result::Result<Self, LoadError> {
        let (hidden, wide) = (config.hidden, config.decoder.wide);
        let name = |part: &str| format!("model.decoder.layers.{index}.{part}");
        let attention = |part: &str| {
            let square = [hidden, hidden];
            let linear = |one: &str, bias| {
                Linear::for_rows(source, &name(&format!("{part}.{one}_proj")), square, bias)
            };
            Ok::<_, LoadError>(Attention {
                norm: Norm::load(source, &name(&format!("{part}_layer_norm")), hidden)?,
                query: linear("q", Bias::With)?,
                key: linear("k", Bias::Without)?,
                value: linear("v", Bias::With)?,
                out: linear("out", Bias::With)?,
            })
        };
        let mut heard = attention("encoder_attn")?;
        // These two are for all places of a window at once.
        let many =
            |one: &str| source.linear(&name(&format!("encoder_attn.{one}_proj")), hidden, hidden);
        let bias = source.floats(&name("encoder_attn.v_proj.bias"), &[hidden])?;
        heard.key = Linear::matrix(many("k")?, None);
        heard.value = Linear::matrix(many("v")?, Some(source.table(bias, &[hidden])?));
        let up = source.floats(&name("fc1.weight"), &[wide, hidden])?;
        Ok(Self {
            attention: attention("self_attn")?,
            heard,
            mlp_norm: Norm::load(source, &name("final_layer_norm"), hidden)?,
            up: Linear::over(source, up, hidden, None)?,
            up_bias: source.bias(&name("fc1"), wide)?,
            down: Linear::for_rows(source, &name("fc2"), [wide, hidden], Bias::With)?,
        })
    }

    fn bytes(&self) -> usize {
        let attentions: usize = [&self.attention, &self.heard]
            .into_iter()
            .flat_map(|one| [&one.query, &one.key, &one.value, &one.out])
            .map(Linear::bytes)
            .sum();
        attentions + self.up.bytes() + self.down.bytes()
    }

    fn forward(
        &self,
        x: Tensor,
        (index, cache): (usize, &KvCache),
        heard: &Seen,
        heads: usize,
    ) -> Result<Tensor> {
        let (count, hidden) = x.dims2()?;
        let split = |x: Tensor| x.reshape((count, heads, hidden / heads));
        let y = self.attention.norm.forward(&x)?;
        let query = split(self.attention.query.forward(&y)?)?;
        let key = split(self.attention.key.forward(&y)?)?;
        let value = split(self.attention.value.forward(&y)?)?;
        cache.put(index, &key.contiguous()?, &value.contiguous()?)?;
        let (keys, values) = cache.with(index, count)?;
        let mixed = attend(&query.contiguous()?, &keys, &values, None)?;
        let x = (x + self.attention.out.forward(&mixed.reshape((count, hidden))?)?)?;

        let y = self.heard.norm.forward(&x)?;
        let query = split(self.heard.query.forward(&y)?)?;
        let mixed = heard.seen_by(&query.contiguous()?)?;
        let x = (x + self.heard.out.forward(&mixed.reshape((count, hidden))?)?)?;

        let wide = self.up.forward(&self.mlp_norm.forward(&x)?)?;
        let wide = ops::bias_gelu(wide, &self.up_bias)?;
        x + self.down.forward(&wide)?
    }
}
