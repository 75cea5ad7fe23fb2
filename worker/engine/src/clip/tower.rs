//! The layers of both networks, and of BLIP's network of images: each normalizes what it reads and adds what it makes.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::{layer_norm, softmax_last_dim};

use super::config::{Activation, TowerConfig};
use crate::source::{Source, bytes};
use crate::texts::Texts;
use crate::{LoadError, ops};

/// Which tokens look at which.
pub(crate) enum Sight<'a> {
    /// Each at all of its own item.
    All(&'a Texts),
    /// Each at those before it and itself. All items are of one length, the second number.
    Back(usize, usize),
}

/// What the parts of a layer are called in a model's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Clip,
    /// Queries, keys and values are joined there already.
    Blip,
}

pub(crate) struct Tower {
    layers: Vec<Layer>,
    heads: usize,
    activation: Activation,
}

/// A layer norm's parameters, of the type of activations.
pub(crate) struct Norm {
    scale: Tensor,
    shift: Tensor,
    epsilon: f32,
}

struct Layer {
    first_norm: Norm,
    /// Queries, keys and values side by side, ready to multiply from the right.
    qkv: Tensor,
    qkv_bias: Tensor,
    mixed: Linear,
    second_norm: Norm,
    up: Tensor,
    up_bias: Tensor,
    down: Linear,
}

/// A product and what is added to it, of the type of activations.
struct Linear {
    weights: Tensor,
    bias: Tensor,
}

impl Norm {
    pub(crate) fn load(
        source: &Source<'_>,
        name: &str,
        (width, epsilon): (usize, f32),
    ) -> std::result::Result<Self, LoadError> {
        let part = |part: &str| {
            source.table(source.floats(&format!("{name}.{part}"), &[width])?, &[width])
        };
        Ok(Self { scale: part("weight")?, shift: part("bias")?, epsilon })
    }

    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.scale, &self.shift, self.epsilon)
    }

    pub(crate) fn tensors(&self) -> [&Tensor; 2] {
        [&self.scale, &self.shift]
    }
}

impl Linear {
    fn load(
        source: &Source<'_>,
        name: &str,
        (inputs, outputs): (usize, usize),
    ) -> std::result::Result<Self, LoadError> {
        let bias = source.floats(&format!("{name}.bias"), &[outputs])?;
        let weights = source.linear(name, inputs, outputs)?;
        Ok(Self { weights, bias: source.table(bias, &[outputs])? })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weights)?.broadcast_add(&self.bias)
    }
}

impl Tower {
    /// # Errors
    /// When a tensor is missing or has another shape, or the device has no memory or no kernels for it.
    pub(crate) fn load(
        source: &Source<'_>,
        config: &TowerConfig,
        names: Names,
    ) -> std::result::Result<Self, LoadError> {
        let TowerConfig { hidden, layers, heads, wide, activation, epsilon: _ } = *config;
        ops::check_sizes(hidden, wide, heads, source.device)?;
        let layers = (0..layers).map(|index| Layer::load(source, config, (index, names)));
        let layers = layers.collect::<std::result::Result<_, _>>()?;
        Ok(Self { layers, heads, activation })
    }

    /// Memory that all tensors take together.
    pub(crate) fn bytes(&self) -> usize {
        self.layers.iter().flat_map(Layer::tensors).map(bytes).sum()
    }

    /// One row per token in, one out.
    pub(crate) fn forward(&self, mut x: Tensor, sight: &Sight<'_>) -> Result<Tensor> {
        for layer in &self.layers {
            let qkv = layer.first_norm.apply(&x)?.matmul(&layer.qkv)?;
            let mixed = match *sight {
                Sight::All(items) => {
                    ops::packed_attention(&qkv, &layer.qkv_bias, items, self.heads)?
                }
                Sight::Back(items, length) => {
                    let qkv = qkv.broadcast_add(&layer.qkv_bias.to_dtype(qkv.dtype())?)?;
                    look_back(&qkv, [items, length, self.heads])?
                }
            };
            x = (x + layer.mixed.apply(&mixed)?)?;
            let wide = layer.second_norm.apply(&x)?.matmul(&layer.up)?;
            let wide = match self.activation {
                Activation::Gelu => ops::bias_gelu(wide, &layer.up_bias)?,
                Activation::QuickGelu => ops::bias_quick_gelu(wide, &layer.up_bias)?,
            };
            x = (x + layer.down.apply(&wide)?)?;
        }
        Ok(x)
    }
}

impl Layer {
    fn load(
        source: &Source<'_>,
        config: &TowerConfig,
        (index, names): (usize, Names),
    ) -> std::result::Result<Self, LoadError> {
        let TowerConfig { hidden, wide, epsilon, .. } = *config;
        let name = |part: &str| format!("encoder.layers.{index}.{part}");
        let norm = |part: &str| Norm::load(source, &name(part), (hidden, epsilon));
        let mut qkv = Vec::with_capacity(3 * hidden * hidden);
        let mut qkv_bias = Vec::with_capacity(3 * hidden);
        let (parts, mixed): (&[&str], _) = match names {
            Names::Clip => (&["q_proj", "k_proj", "v_proj"], "out_proj"),
            Names::Blip => (&["qkv"], "projection"),
        };
        for part in parts {
            let rows = 3 * hidden / parts.len();
            let part = name(&format!("self_attn.{part}"));
            qkv.extend(source.floats(&format!("{part}.weight"), &[rows, hidden])?);
            qkv_bias.extend(source.floats(&format!("{part}.bias"), &[rows])?);
        }
        Ok(Self {
            first_norm: norm("layer_norm1")?,
            qkv: source.matrix(&qkv, hidden)?,
            qkv_bias: source.tensor(qkv_bias, &[3 * hidden])?,
            mixed: Linear::load(source, &name(&format!("self_attn.{mixed}")), (hidden, hidden))?,
            second_norm: norm("layer_norm2")?,
            up: source.linear(&name("mlp.fc1"), hidden, wide)?,
            up_bias: source.bias(&name("mlp.fc1"), wide)?,
            down: Linear::load(source, &name("mlp.fc2"), (wide, hidden))?,
        })
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let norms = [&self.first_norm, &self.second_norm].into_iter().flat_map(Norm::tensors);
        let linears = [&self.mixed, &self.down].into_iter();
        let linears = linears.flat_map(|linear| [&linear.weights, &linear.bias]);
        norms.chain(linears).chain([&self.qkv, &self.qkv_bias, &self.up, &self.up_bias])
    }
}

/// Attention of each token to those before it and itself, on joined queries, keys and values.
fn look_back(qkv: &Tensor, [items, length, heads]: [usize; 3]) -> Result<Tensor> {
    let hidden = qkv.dim(1)? / 3;
    let width = hidden / heads;
    let qkv = qkv.reshape((items, length, 3, heads, width))?.permute((2, 0, 3, 1, 4))?;
    let part = |part: usize| qkv.get(part)?.contiguous();
    let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
    // Widths are far below 2^24.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let scale = 1.0 / (width as f64).sqrt();
    let scores = (queries.matmul(&keys.transpose(D::Minus2, D::Minus1)?.contiguous()?)? * scale)?;
    let later = |query: usize| {
        (0..length).map(move |key| if key > query { f32::NEG_INFINITY } else { 0.0 })
    };
    let mask: Vec<f32> = (0..length).flat_map(later).collect();
    let mask =
        Tensor::from_vec(mask, (length, length), scores.device())?.to_dtype(scores.dtype())?;
    let shares = softmax_last_dim(&scores.broadcast_add(&mask)?)?;
    shares.matmul(&values)?.transpose(1, 2)?.reshape((items * length, hidden))
}
