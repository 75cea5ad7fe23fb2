//! The layers of a network: each normalizes what it reads and adds what it makes.

use candle_core::{D, Error, Result, Tensor};
use candle_nn::ops::{layer_norm, silu, softmax_last_dim};

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
    /// What a layer adds is scaled there, number by number.
    Dino,
}

pub(crate) struct Tower {
    layers: Vec<Layer>,
    heads: usize,
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
    mlp: Mlp,
}

/// What is made of each token by itself.
pub(crate) struct Mlp {
    up: Tensor,
    up_bias: Tensor,
    activation: Activation,
    down: Linear,
}

/// A product and what is added to it, of the type of activations.
pub(crate) struct Linear {
    weights: Tensor,
    bias: Tensor,
    /// What each number is multiplied by, if by anything. Apart from the weights, since both are small and a product of
    /// the two may be nothing in f16.
    scale: Option<Tensor>,
}

impl Names {
    /// The name of a layer, which ends before the names of its parts.
    const fn layers(self) -> &'static str {
        match self {
            Self::Clip | Self::Blip => "encoder.layers",
            Self::Dino => "encoder.layer",
        }
    }

    /// Layer norms before attention and what follows it.
    const fn norms(self) -> [&'static str; 2] {
        match self {
            Self::Clip | Self::Blip => ["layer_norm1", "layer_norm2"],
            Self::Dino => ["norm1", "norm2"],
        }
    }

    /// Queries, keys and values in this order.
    const fn looks(self) -> &'static [&'static str] {
        match self {
            Self::Clip => &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            Self::Blip => &["self_attn.qkv"],
            Self::Dino => &[
                "attention.attention.query",
                "attention.attention.key",
                "attention.attention.value",
            ],
        }
    }

    /// The product behind attention, and what scales it.
    const fn mixed(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Clip => ("self_attn.out_proj", None),
            Self::Blip => ("self_attn.projection", None),
            Self::Dino => ("attention.output.dense", Some("layer_scale1.lambda1")),
        }
    }

    /// What scales the last product of a layer.
    const fn last_scale(self) -> Option<&'static str> {
        match self {
            Self::Clip | Self::Blip => None,
            Self::Dino => Some("layer_scale2.lambda1"),
        }
    }
}

impl Activation {
    /// The products before and behind it.
    const fn names(self) -> [&'static str; 2] {
        match self {
            Self::Gelu | Self::QuickGelu | Self::TanhGelu => ["mlp.fc1", "mlp.fc2"],
            Self::SwiGlu => ["mlp.weights_in", "mlp.weights_out"],
        }
    }

    /// Numbers that go in for so many that come out.
    const fn inputs(self, wide: usize) -> usize {
        match self {
            Self::Gelu | Self::QuickGelu | Self::TanhGelu => wide,
            Self::SwiGlu => 2 * wide,
        }
    }
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
    /// The product with `weights`, which have a row for each number that comes out.
    pub(crate) fn new(
        source: &Source<'_>,
        weights: &[f32],
        (inputs, bias): (usize, Vec<f32>),
    ) -> std::result::Result<Self, LoadError> {
        let outputs = bias.len();
        let bias = source.table(bias, &[outputs])?;
        Ok(Self { weights: source.matrix(weights, inputs)?, bias, scale: None })
    }

    pub(crate) fn load(
        source: &Source<'_>,
        (name, scale): (&str, Option<&str>),
        (inputs, outputs): (usize, usize),
    ) -> std::result::Result<Self, LoadError> {
        let row = |name: &str| source.floats(name, &[outputs]);
        let weights = source.floats(&format!("{name}.weight"), &[outputs, inputs])?;
        let scale = scale.map(|name| source.table(row(name)?, &[outputs])).transpose()?;
        let bias = row(&format!("{name}.bias"))?;
        Ok(Self { scale, ..Self::new(source, &weights, (inputs, bias))? })
    }

    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.matmul(&self.weights)?.broadcast_add(&self.bias)?;
        match &self.scale {
            None => Ok(x),
            Some(scale) => x.broadcast_mul(scale),
        }
    }

    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        [&self.weights, &self.bias].into_iter().chain(&self.scale)
    }
}

impl Mlp {
    /// `name` has the names of its parts in the file. The last product may be scaled.
    pub(crate) fn load(
        source: &Source<'_>,
        name: impl Fn(&str) -> String,
        (config, scale): (&TowerConfig, Option<&str>),
    ) -> std::result::Result<Self, LoadError> {
        let TowerConfig { hidden, wide, activation, .. } = *config;
        let ([up, down], inputs) = (activation.names(), activation.inputs(wide));
        let scale = scale.map(&name);
        let down = (&*name(down), scale.as_deref());
        Ok(Self {
            up: source.linear(&name(up), hidden, inputs)?,
            up_bias: source.bias(&name(up), inputs)?,
            activation,
            down: Linear::load(source, down, (wide, hidden))?,
        })
    }

    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let wide = x.matmul(&self.up)?;
        let wide = match self.activation {
            Activation::Gelu => ops::bias_gelu(wide, &self.up_bias)?,
            Activation::QuickGelu => ops::bias_quick_gelu(wide, &self.up_bias)?,
            Activation::TanhGelu => ops::bias_tanh_gelu(wide, &self.up_bias)?,
            Activation::SwiGlu => bias_swi_glu(&wide, &self.up_bias)?,
        };
        self.down.apply(&wide)
    }

    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.down.tensors().chain([&self.up, &self.up_bias])
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
        let TowerConfig { hidden, layers, heads, wide, .. } = *config;
        ops::check_sizes(hidden, wide, heads, source.device)?;
        let layers = (0..layers).map(|index| Layer::load(source, config, (index, names)));
        let layers = layers.collect::<std::result::Result<_, _>>()?;
        Ok(Self { layers, heads })
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
            x = (&x + layer.mlp.apply(&layer.second_norm.apply(&x)?)?)?;
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
        let TowerConfig { hidden, epsilon, .. } = *config;
        let name = |part: &str| format!("{}.{index}.{part}", names.layers());
        let norm = |part: &str| Norm::load(source, &name(part), (hidden, epsilon));
        let mut qkv = Vec::with_capacity(3 * hidden * hidden);
        let mut qkv_bias = Vec::with_capacity(3 * hidden);
        for part in names.looks() {
            let rows = 3 * hidden / names.looks().len();
            let part = name(part);
            qkv.extend(source.floats(&format!("{part}.weight"), &[rows, hidden])?);
            qkv_bias.extend(source.floats(&format!("{part}.bias"), &[rows])?);
        }
        let [first_norm, second_norm] = names.norms();
        let (mixed, scale) = names.mixed();
        let scale = scale.map(name);
        let mixed = (&*name(mixed), scale.as_deref());
        Ok(Self {
            first_norm: norm(first_norm)?,
            qkv: source.matrix(&qkv, hidden)?,
            qkv_bias: source.tensor(qkv_bias, &[3 * hidden])?,
            mixed: Linear::load(source, mixed, (hidden, hidden))?,
            second_norm: norm(second_norm)?,
            mlp: Mlp::load(source, name, (config, names.last_scale()))?,
        })
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let norms = [&self.first_norm, &self.second_norm].into_iter().flat_map(Norm::tensors);
        let products = self.mixed.tensors().chain(self.mlp.tensors());
        norms.chain(products).chain([&self.qkv, &self.qkv_bias])
    }
}

/// The second half of the numbers of `x + bias`, each as much of it as the first half says.
fn bias_swi_glu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let x = x.broadcast_add(&bias.to_dtype(x.dtype())?)?;
    let half = x.dim(1)? / 2;
    silu(&x.narrow(1, 0, half)?)? * x.narrow(1, half, half)?
}

/// Attention of each token to those before it and itself, on joined queries, keys and values.
fn look_back(qkv: &Tensor, [items, length, heads]: [usize; 3]) -> Result<Tensor> {
    let [queries, keys, values] = by_head(qkv, [items, length, heads])?;
    let width = queries.dim(D::Minus1)?;
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
    shares.matmul(&values)?.transpose(1, 2)?.reshape((items * length, heads * width))
}

/// The parts of a joined product, each item by item, head by head, and row by row.
pub(super) fn by_head<const PARTS: usize>(
    joined: &Tensor,
    [items, length, heads]: [usize; 3],
) -> Result<[Tensor; PARTS]> {
    let width = joined.dim(1)? / PARTS / heads;
    let parts = joined.reshape((items, length, PARTS, heads, width))?.permute((2, 0, 3, 1, 4))?;
    let parts = (0..PARTS).map(|part| parts.get(part)?.contiguous()).collect::<Result<Vec<_>>>()?;
    parts.try_into().map_err(|_| Error::msg("a product has other parts than it is made of"))
}
