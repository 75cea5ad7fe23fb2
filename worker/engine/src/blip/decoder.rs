//! The decoder: tokens that see those before them, and everything that was seen of the image.
//!
//! As in BERT, what a part makes is added to what it read, and the sum is normalized.

use candle_core::{DType, Result, Tensor, bail};

use super::config::{BlipConfig, OutputRows, WordsConfig};
use crate::decoder::KvCache;
use crate::decoder::attention::attend;
use crate::decoder::linear::{Bias, Linear};
use crate::decoder::seen::Seen;
use crate::source::{Source, bytes};
use crate::towers::tower::Norm;
use crate::{LoadError, ops};

/// What stands before the names of its tensors.
const PREFIX: &str = "text_decoder.";

pub(super) struct Decoder {
    words: Tensor,
    positions: Tensor,
    first_norm: Norm,
    layers: Vec<Layer>,
    head: Head,
    heads: usize,
}

struct Layer {
    attention: Attention,
    /// To what was seen.
    sight: Attention,
    up: Linear,
    up_bias: Tensor,
    down: Linear,
    norm: Norm,
}

struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm: Norm,
}

/// From the last layer to a number for each token of the vocabulary.
struct Head {
    dense: Linear,
    dense_bias: Tensor,
    norm: Norm,
    words: Linear,
}

/// A caption that is being written: what was seen, and the keys and values of its tokens.
pub(crate) struct Caption {
    seen: Vec<Seen>,
    cache: KvCache,
}

/// Which rows of a step are whose.
struct Rows<'a> {
    captions: &'a [&'a mut Caption],
    /// The first row of each, and how many it has.
    spans: Vec<(usize, usize)>,
    heads: usize,
}

impl Decoder {
    pub(super) fn load(
        top: &Source<'_>,
        config: &BlipConfig,
    ) -> std::result::Result<Self, LoadError> {
        let source = &Source { prefix: PREFIX, ..*top };
        let WordsConfig { layers, vocabulary, positions, .. } = &config.words;
        let (hidden, norm) = (layers.hidden, (layers.hidden, layers.epsilon));
        ops::check_sizes(hidden, layers.wide, layers.heads, source.device)?;
        let name = |name: &str| format!("bert.embeddings.{name}");
        let words = [*vocabulary, hidden];
        let numbers = source.floats(&name("word_embeddings.weight"), &words)?;
        let places = [*positions, hidden];
        let positions = source.floats(&name("position_embeddings.weight"), &places)?;
        let each = (0..layers.layers).map(|index| Layer::load(source, config, index));
        Ok(Self {
            words: source.table(numbers.clone(), &words)?,
            positions: source.table(positions, &places)?,
            first_norm: Norm::load(source, &name("LayerNorm"), norm)?,
            layers: each.collect::<std::result::Result<_, _>>()?,
            head: Head::load(source, &config.words, numbers)?,
            heads: layers.heads,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(Layer::bytes).sum();
        let head = self.head.dense.bytes() + self.head.words.bytes();
        bytes(&self.words) + bytes(&self.positions) + layers + head
    }

    pub(super) fn begin(&self, seen: &Tensor, rooms: &[usize]) -> Result<Vec<Caption>> {
        let (rows, count) = (seen.dim(0)?, rooms.len());
        if count == 0 || !rows.is_multiple_of(count) {
            bail!("{rows} rows of {count} images")
        }
        let places = rows / count;
        let hidden = self.words.dim(1)?;
        let width = hidden / self.heads;
        let mut captions = Vec::with_capacity(count);
        for room in rooms {
            if !(1..=self.positions.dim(0)?).contains(room) {
                bail!("room for {room} tokens")
            }
            let row = (*room, self.heads, width);
            let cache = KvCache::of_rows(self.layers.len(), row, seen.dtype(), seen.device())?;
            captions.push(Caption { seen: Vec::with_capacity(self.layers.len()), cache });
        }
        for layer in &self.layers {
            let split = |x: Tensor| x.reshape((rows, self.heads, width));
            let keys = split(layer.sight.key.forward(seen)?)?;
            let values = split(layer.sight.value.forward(seen)?)?;
            for (index, caption) in captions.iter_mut().enumerate() {
                let of = |x: &Tensor| x.narrow(0, index * places, places);
                caption.seen.push(Seen::new(&of(&keys)?, &of(&values)?)?);
            }
        }
        Ok(captions)
    }

    pub(super) fn step(
        &self,
        captions: &mut [&mut Caption],
        tokens: &[&[u32]],
    ) -> Result<Vec<Vec<f32>>> {
        let rows = Rows::new(captions, tokens, self.heads)?;
        let place = |(caption, tokens): (&&mut Caption, &&[u32])| {
            let first = caption.cache.len();
            (first..first + tokens.len()).map(|place| u32::try_from(place).unwrap_or(u32::MAX))
        };
        let places: Vec<u32> = captions.iter().zip(tokens).flat_map(place).collect();
        let device = self.words.device();
        let ids = Tensor::new(tokens.concat(), device)?;
        let places = Tensor::new(places, device)?;
        let x = ops::take_rows(&self.words, &ids)? + ops::take_rows(&self.positions, &places)?;
        let mut x = self.first_norm.apply(&x?)?;
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, index, &rows)?;
        }
        let lasts = rows.spans.iter().map(|(first, count)| x.narrow(0, first + count - 1, 1));
        let lasts = Tensor::cat(&lasts.collect::<Result<Vec<_>>>()?, 0)?;
        for (caption, tokens) in captions.iter_mut().zip(tokens) {
            caption.cache.advance(tokens.len());
        }
        self.head.forward(&lasts)
    }
}

impl<'a> Rows<'a> {
    fn new(captions: &'a [&'a mut Caption], tokens: &[&[u32]], heads: usize) -> Result<Self> {
        if captions.is_empty() || captions.len() != tokens.len() {
            bail!("{} captions and tokens for {}", captions.len(), tokens.len())
        }
        let (mut spans, mut rows) = (Vec::with_capacity(tokens.len()), 0);
        for (caption, tokens) in captions.iter().zip(tokens) {
            let (first, count) = (caption.cache.len(), tokens.len());
            if count == 0 || first + count > caption.cache.capacity() {
                bail!("tokens {first} to {} of {}", first + count, caption.cache.capacity())
            }
            spans.push((rows, count));
            rows += count;
        }
        Ok(Self { captions, spans, heads })
    }

    /// What each caption's own rows become; `x` has the dimensions row, head, number.
    fn each(
        &self,
        x: &Tensor,
        become_of: impl Fn(&Caption, &Tensor, (usize, usize)) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let parts = self.captions.iter().zip(&self.spans).map(|(caption, span)| {
            become_of(caption, &x.narrow(0, span.0, span.1)?.contiguous()?, *span)
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let (rows, heads, width) = x.dims3()?;
        Tensor::cat(&parts, 0)?.reshape((rows, heads * width))
    }

    fn split(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, hidden) = x.dims2()?;
        x.reshape((rows, self.heads, hidden / self.heads))
    }
}

impl Layer {
    fn load(
        source: &Source<'_>,
        config: &BlipConfig,
        index: usize,
    ) -> std::result::Result<Self, LoadError> {
        let layers = &config.words.layers;
        let (hidden, wide) = (layers.hidden, layers.wide);
        let name = |part: &str| format!("bert.encoder.layer.{index}.{part}");
        let norm = |part: &str| {
            Norm::load(source, &name(&format!("{part}.output.LayerNorm")), (hidden, layers.epsilon))
        };
        let attention = |part: &str| {
            let linear = |one: &str| {
                let name = name(&format!("{part}.{one}"));
                Linear::for_rows(source, &name, [hidden, hidden], Bias::With)
            };
            let (query, out) = (linear("self.query")?, linear("output.dense")?);
            let (key, value) = (linear("self.key")?, linear("self.value")?);
            Ok::<_, LoadError>(Attention { query, key, value, out, norm: norm(part)? })
        };
        let sight = || {
            // These two are for all patches at once.
            let linear = |one: &str| {
                let name = name(&format!("crossattention.self.{one}"));
                let bias = source.floats(&format!("{name}.bias"), &[hidden])?;
                let weights = source.linear(&name, config.vision.tower.hidden, hidden)?;
                Ok::<_, LoadError>(Linear::matrix(weights, Some(source.table(bias, &[hidden])?)))
            };
            let few = |one: &str| {
                let name = name(&format!("crossattention.{one}"));
                Linear::for_rows(source, &name, [hidden, hidden], Bias::With)
            };
            let (query, out) = (few("self.query")?, few("output.dense")?);
            let (key, value) = (linear("key")?, linear("value")?);
            Ok::<_, LoadError>(Attention { query, key, value, out, norm: norm("crossattention")? })
        };
        let up = source.floats(&name("intermediate.dense.weight"), &[wide, hidden])?;
        let last = Norm::load(source, &name("output.LayerNorm"), (hidden, layers.epsilon))?;
        Ok(Self {
            attention: attention("attention")?,
            sight: sight()?,
            up: Linear::over(source, up, hidden, None)?,
            up_bias: source.bias(&name("intermediate.dense"), wide)?,
            down: Linear::for_rows(source, &name("output.dense"), [wide, hidden], Bias::With)?,
            norm: last,
        })
    }

    fn bytes(&self) -> usize {
        let attentions: usize = [&self.attention, &self.sight]
            .into_iter()
            .flat_map(|one| [&one.query, &one.key, &one.value, &one.out])
            .map(Linear::bytes)
            .sum();
        attentions + self.up.bytes() + self.down.bytes()
    }

    fn forward(&self, x: &Tensor, index: usize, rows: &Rows<'_>) -> Result<Tensor> {
        let Attention { query, key, value, out, norm } = &self.attention;
        let queries = rows.split(&query.forward(x)?)?;
        let (keys, values) = (rows.split(&key.forward(x)?)?, rows.split(&value.forward(x)?)?);
        let mixed = rows.each(&queries, |caption, queries, (first, count)| {
            let own = |x: &Tensor| x.narrow(0, first, count)?.contiguous();
            caption.cache.put(index, &own(&keys)?, &own(&values)?)?;
            let (keys, values) = caption.cache.with(index, count)?;
            attend(queries, &keys, &values, None)
        })?;
        let x = norm.apply(&(out.forward(&mixed)? + x)?)?;

        let Attention { query, out, norm, .. } = &self.sight;
        let queries = rows.split(&query.forward(&x)?)?;
        let mixed =
            rows.each(&queries, |caption, queries, _| caption.seen[index].seen_by(queries))?;
        let x = norm.apply(&(out.forward(&mixed)? + x)?)?;

        let wide = ops::bias_gelu(self.up.forward(&x)?, &self.up_bias)?;
        self.norm.apply(&(self.down.forward(&wide)? + x)?)
    }
}

impl Head {
    /// `rows` are those of the vocabulary.
    fn load(
        source: &Source<'_>,
        config: &WordsConfig,
        rows: Vec<f32>,
    ) -> std::result::Result<Self, LoadError> {
        let (hidden, epsilon) = (config.layers.hidden, config.layers.epsilon);
        let name = |name: &str| format!("cls.predictions.{name}");
        let shape = [config.vocabulary, hidden];
        let rows = match config.output {
            OutputRows::Vocabulary => rows,
            OutputRows::Own => source.floats(&name("decoder.weight"), &shape)?,
        };
        // Files of tied models have it once, under either name.
        let own = name("decoder.bias");
        let bias = if source.has(&own) { own } else { name("bias") };
        let bias = source.table(source.floats(&bias, &[config.vocabulary])?, &shape[..1])?;
        let dense = source.floats(&name("transform.dense.weight"), &[hidden, hidden])?;
        Ok(Self {
            dense: Linear::over(source, dense, hidden, None)?,
            dense_bias: source.bias(&name("transform.dense"), hidden)?,
            norm: Norm::load(source, &name("transform.LayerNorm"), (hidden, epsilon))?,
            words: Linear::over(source, rows, hidden, Some(bias))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Vec<Vec<f32>>> {
        let x = ops::bias_gelu(self.dense.forward(x)?, &self.dense_bias)?;
        self.words.forward(&self.norm.apply(&x)?)?.to_dtype(DType::F32)?.to_vec2()
    }
}
