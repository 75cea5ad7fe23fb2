//! A BERT encoder without padding: the tokens of all texts of a batch form one matrix.
//!
//! Every product works on that matrix; only attention and pooling know where one text ends.

use candle_core::{Device, Result, Tensor};

use crate::config::BertConfig;
use crate::texts::Texts;
use crate::weights::Weights;
use crate::{LoadError, Precision, ops};

/// A loaded network. Immutable; any number of threads may use it at the same time.
pub(crate) struct PackedBert {
    words: Tensor,
    /// Positions with the vector of the only token type already added.
    positions: Tensor,
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

impl PackedBert {
    /// Takes the network out of its weights and moves it to a device. On a CPU the precision must
    /// be f32.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, a number is too large for the precision, or
    /// the device has no memory for it or no kernels for its shape.
    pub(crate) fn load(
        weights: &Weights<'_>,
        config: &BertConfig,
        device: &Device,
        precision: Precision,
    ) -> std::result::Result<Self, LoadError> {
        ops::check_shape(config, device)?;
        let source = Source { weights, device, precision };
        let hidden = config.hidden_size;
        let layers = (0..config.num_hidden_layers).map(|index| Layer::load(&source, config, index));
        Ok(Self {
            words: source.table(
                source.floats("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?,
                &[config.vocab_size, hidden],
            )?,
            positions: source.positions(config)?,
            embedding_norm: source.norm(None, "embeddings.LayerNorm", hidden)?,
            layers: layers.collect::<std::result::Result<_, _>>()?,
            heads: config.num_attention_heads,
            // The value is a small power of ten.
            #[expect(clippy::cast_possible_truncation, reason = "see above")]
            epsilon: config.layer_norm_eps as f32,
        })
    }

    /// Memory that all tensors take together.
    pub(crate) fn bytes(&self) -> usize {
        let layers = self.layers.iter().flat_map(Layer::tensors);
        let embeddings = [&self.words, &self.positions, &self.embedding_norm];
        let bytes = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
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
        let positions: Vec<u32> = texts.iter().flat_map(|text| (0..).take(text.len())).collect();
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
        config: &BertConfig,
        index: usize,
    ) -> std::result::Result<Self, LoadError> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let attention = name("attention.self");
        let mut qkv = Vec::with_capacity(3 * hidden * hidden);
        let mut qkv_bias = Vec::with_capacity(3 * hidden);
        for part in ["query", "key", "value"] {
            qkv.extend(source.floats(&format!("{attention}.{part}.weight"), &[hidden, hidden])?);
            qkv_bias.extend(source.floats(&format!("{attention}.{part}.bias"), &[hidden])?);
        }
        let linear = |part: &str, from: usize, to: usize| {
            source.matrix(&source.floats(&name(&format!("{part}.weight")), &[to, from])?, from)
        };
        let norm = |part: &str| {
            let bias = name(&format!("{part}.dense.bias"));
            source.norm(Some(&bias), &name(&format!("{part}.LayerNorm")), hidden)
        };
        let up_bias = source.floats(&name("intermediate.dense.bias"), &[wide])?;
        Ok(Self {
            qkv: source.matrix(&qkv, hidden)?,
            qkv_bias: source.tensor(qkv_bias, &[3 * hidden])?,
            attention_out: linear("attention.output.dense", hidden, hidden)?,
            attention_norm: norm("attention.output")?,
            up: linear("intermediate.dense", hidden, wide)?,
            up_bias: source.tensor(up_bias, &[wide])?,
            down: linear("output.dense", wide, hidden)?,
            output_norm: norm("output")?,
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

/// Weights on their way to a device.
struct Source<'a> {
    weights: &'a Weights<'a>,
    device: &'a Device,
    precision: Precision,
}

impl Source<'_> {
    fn floats(&self, name: &str, shape: &[usize]) -> std::result::Result<Vec<f32>, LoadError> {
        let numbers = self.weights.floats(name, shape)?;
        if self.precision.holds(&numbers) {
            return Ok(numbers);
        }
        Err(LoadError::Range { name: name.to_owned(), precision: self.precision })
    }

    /// Numbers that stay f32 whatever the precision.
    fn tensor(&self, numbers: Vec<f32>, shape: &[usize]) -> std::result::Result<Tensor, LoadError> {
        Tensor::from_vec(numbers, shape, self.device).map_err(|error| self.device_error(&error))
    }

    /// Numbers of the type that activations have.
    fn table(&self, numbers: Vec<f32>, shape: &[usize]) -> std::result::Result<Tensor, LoadError> {
        Tensor::from_vec(numbers, shape, &Device::Cpu)
            .and_then(|table| table.to_dtype(self.precision.dtype())?.to_device(self.device))
            .map_err(|error| self.device_error(&error))
    }

    /// The weights of a linear layer, stored with one row per output, as a right factor. Turned
    /// around once here, they need not be in every product.
    fn matrix(&self, numbers: &[f32], inputs: usize) -> std::result::Result<Tensor, LoadError> {
        self.table(transposed(numbers, inputs), &[inputs, numbers.len() / inputs])
    }

    /// The parameters of a layer norm with the bias that is added before it, zero if there is none.
    fn norm(
        &self,
        bias: Option<&str>,
        norm: &str,
        width: usize,
    ) -> std::result::Result<Tensor, LoadError> {
        let mut numbers = match bias {
            Some(name) => self.floats(name, &[width])?,
            None => vec![0.0; width],
        };
        numbers.extend(self.floats(&format!("{norm}.weight"), &[width])?);
        numbers.extend(self.floats(&format!("{norm}.bias"), &[width])?);
        self.tensor(numbers, &[3, width])
    }

    fn positions(&self, config: &BertConfig) -> std::result::Result<Tensor, LoadError> {
        let hidden = config.hidden_size;
        let shape = [config.max_position_embeddings, hidden];
        let mut numbers = self.floats("embeddings.position_embeddings.weight", &shape)?;
        let types = [config.type_vocab_size, hidden];
        let types = self.floats("embeddings.token_type_embeddings.weight", &types)?;
        for row in numbers.chunks_exact_mut(hidden) {
            for (number, add) in row.iter_mut().zip(&types) {
                *number += add;
            }
        }
        self.table(numbers, &shape)
    }

    fn device_error(&self, error: &candle_core::Error) -> LoadError {
        let device = format!("{:?}", self.device.location());
        LoadError::Device { device, what: crate::device::one_line(error) }
    }
}

/// A matrix with its rows as columns, block by block so that reads and writes stay in the cache.
fn transposed(numbers: &[f32], columns: usize) -> Vec<f32> {
    const BLOCK: usize = 32;
    let rows = numbers.len() / columns;
    let mut turned = vec![0.0; numbers.len()];
    for first_row in (0..rows).step_by(BLOCK) {
        for first_column in (0..columns).step_by(BLOCK) {
            for column in first_column..(first_column + BLOCK).min(columns) {
                let to = &mut turned[column * rows..][..rows];
                for row in first_row..(first_row + BLOCK).min(rows) {
                    to[row] = numbers[row * columns + column];
                }
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposed_matrix_has_its_rows_as_columns() {
        let (rows, columns) = (70u8, 3u8);
        let numbers: Vec<f32> = (0..rows * columns).map(f32::from).collect();
        let turned = transposed(&numbers, usize::from(columns));
        for row in 0..usize::from(rows) {
            for column in 0..usize::from(columns) {
                let (before, after) = (
                    numbers[row * usize::from(columns) + column],
                    turned[column * usize::from(rows) + row],
                );
                assert!((before - after).abs() < f32::EPSILON, "{row}, {column}");
            }
        }
    }
}
