//! The encoder: two convolutions over the frames, then layers of attention in which every place sees all others.

use candle_core::{Result, Tensor};

use super::{Norm, Source, WhisperConfig, bytes};
use crate::texts::Texts;
use crate::{LoadError, ops};

pub(super) struct Encoder {
    first: Convolution,
    second: Convolution,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: Norm,
    heads: usize,
}

/// A convolution over three rows, as the product of those rows side by side with one matrix.
struct Convolution {
    weights: Tensor,
    bias: Tensor,
}

struct Layer {
    attention_norm: Norm,
    /// Queries, keys and values side by side. Keys have no bias: zeros.
    qkv: Tensor,
    qkv_bias: Tensor,
    attention_out: Tensor,
    attention_out_bias: Tensor,
    mlp_norm: Norm,
    up: Tensor,
    up_bias: Tensor,
    down: Tensor,
    down_bias: Tensor,
}

impl Encoder {
    pub(super) fn load(
        source: &Source<'_>,
        config: &WhisperConfig,
    ) -> std::result::Result<Self, LoadError> {
        let hidden = config.hidden;
        let name = "model.encoder.embed_positions.weight";
        let shape = [config.places, hidden];
        let layers = (0..config.encoder.layers).map(|index| Layer::load(source, config, index));
        Ok(Self {
            first: Convolution::load(source, "model.encoder.conv1", [config.bands, hidden])?,
            second: Convolution::load(source, "model.encoder.conv2", [hidden, hidden])?,
            positions: source.table(source.floats(name, &shape)?, &shape)?,
            layers: layers.collect::<std::result::Result<_, _>>()?,
            norm: Norm::load(source, "model.encoder.layer_norm", hidden)?,
            heads: config.encoder.heads,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let convolutions = [&self.first.weights, &self.second.weights, &self.positions];
        let layers = self
            .layers
            .iter()
            .flat_map(|layer| [&layer.qkv, &layer.attention_out, &layer.up, &layer.down]);
        convolutions.into_iter().chain(layers).map(bytes).sum()
    }

    /// Of the frames of one window.
    pub(super) fn forward(&self, frames: &Tensor) -> Result<Tensor> {
        let x = frames.to_dtype(self.positions.dtype())?;
        let x = self.first.forward(&rows_of_three(&x)?)?;
        let x = self.second.forward(&every_other_three(&x)?)?;
        let mut x = (x + &self.positions)?;
        let places = Texts::new(vec![x.dim(0)?], x.device())?;
        for layer in &self.layers {
            x = layer.forward(x, &places, self.heads)?;
        }
        self.norm.forward(&x)
    }
}

/// Each row between the one before and the one behind it; beyond the ends are zeros.
fn rows_of_three(x: &Tensor) -> Result<Tensor> {
    let (rows, _) = x.dims2()?;
    let padded = x.pad_with_zeros(0, 1, 1)?;
    let part = |from: usize| padded.narrow(0, from, rows);
    Tensor::cat(&[part(0)?, part(1)?, part(2)?], 1)
}

/// The same of the first row, the third, and so on.
fn every_other_three(x: &Tensor) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let padded = x.pad_with_zeros(0, 1, 1)?;
    // Two rows beside each other, and the first of the next two.
    let pairs = padded.narrow(0, 0, rows)?.reshape((rows / 2, 2 * width))?;
    let next = padded.narrow(0, 2, rows)?.reshape((rows / 2, 2 * width))?.narrow(1, 0, width)?;
    Tensor::cat(&[pairs, next], 1)
}

impl Convolution {
    fn load(
        source: &Source<'_>,
        name: &str,
        [inputs, outputs]: [usize; 2],
    ) -> std::result::Result<Self, LoadError> {
        let stored = source.floats(&format!("{name}.weight"), &[outputs, inputs, 3])?;
        // For each output the three numbers of each input stand together; here those of each row do.
        let mut numbers = vec![0.0; stored.len()];
        for (output, stored) in stored.chunks_exact(3 * inputs).enumerate() {
            for (input, three) in stored.chunks_exact(3).enumerate() {
                for (row, number) in three.iter().enumerate() {
                    numbers[output * 3 * inputs + row * inputs + input] = *number;
                }
            }
        }
        Ok(Self {
            weights: source.matrix(&numbers, 3 * inputs)?,
            bias: source.bias(name, outputs)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::bias_gelu(x.matmul(&self.weights)?, &self.bias)
    }
}

impl Layer {
    fn load(
        source: &Source<'_>,
        config: &WhisperConfig,
        index: usize,
    ) -> std::result::Result<Self, LoadError> {
        let (hidden, wide) = (config.hidden, config.encoder.wide);
        let name = |part: &str| format!("model.encoder.layers.{index}.{part}");
        let mut qkv = Vec::with_capacity(3 * hidden * hidden);
        let mut qkv_bias = Vec::with_capacity(3 * hidden);
        for part in ["q", "k", "v"] {
            let layer = name(&format!("self_attn.{part}_proj"));
            qkv.extend(source.floats(&format!("{layer}.weight"), &[hidden, hidden])?);
            if part == "k" {
                qkv_bias.extend(vec![0.0; hidden]);
            } else {
                qkv_bias.extend(source.floats(&format!("{layer}.bias"), &[hidden])?);
            }
        }
        let bias = |part: &str| {
            source.table(source.floats(&format!("{}.bias", name(part)), &[hidden])?, &[hidden])
        };
        Ok(Self {
            attention_norm: Norm::load(source, &name("self_attn_layer_norm"), hidden)?,
            qkv: source.matrix(&qkv, hidden)?,
            qkv_bias: source.tensor(qkv_bias, &[3 * hidden])?,
            attention_out: source.linear(&name("self_attn.out_proj"), hidden, hidden)?,
            attention_out_bias: bias("self_attn.out_proj")?,
            mlp_norm: Norm::load(source, &name("final_layer_norm"), hidden)?,
            up: source.linear(&name("fc1"), hidden, wide)?,
            up_bias: source.bias(&name("fc1"), wide)?,
            down: source.linear(&name("fc2"), wide, hidden)?,
            down_bias: bias("fc2")?,
        })
    }

    fn forward(&self, x: Tensor, places: &Texts, heads: usize) -> Result<Tensor> {
        let qkv = self.attention_norm.forward(&x)?.matmul(&self.qkv)?;
        let mixed = ops::packed_attention(&qkv, &self.qkv_bias, places, heads)?;
        let attended = mixed.matmul(&self.attention_out)?;
        let x = (x + attended.broadcast_add(&self.attention_out_bias)?)?;
        let wide = self.mlp_norm.forward(&x)?.matmul(&self.up)?;
        let narrow = ops::bias_gelu(wide, &self.up_bias)?.matmul(&self.down)?;
        x + narrow.broadcast_add(&self.down_bias)?
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn rows_stand_beside_their_neighbors() {
        let x = Tensor::from_vec(vec![1_f32, 2.0, 3.0, 4.0], (4, 1), &Device::Cpu).unwrap();
        let rows = |x: Tensor| x.to_vec2::<f32>().unwrap();
        let all = rows(rows_of_three(&x).unwrap());
        assert_eq!(all, [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [3.0, 4.0, 0.0]]);
        assert_eq!(rows(every_other_three(&x).unwrap()), [all[0].clone(), all[2].clone()]);
    }
}
