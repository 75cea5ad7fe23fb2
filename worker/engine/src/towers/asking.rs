//! One vector out of all tokens of an image: a question that was learned looks at them, and what it finds goes through
//! half a layer.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::config::TowerConfig;
use super::tower::{Linear, Mlp, Norm, by_head};
use crate::LoadError;
use crate::source::{Source, bytes};

pub(crate) struct Asking {
    /// What is looked for by each head, shortened so that products need not be.
    question: Tensor,
    /// Keys and values side by side.
    keys_values: Linear,
    mixed: Linear,
    norm: Norm,
    mlp: Mlp,
}

impl Asking {
    /// # Errors
    /// When a tensor is missing or has another shape, or the device has no memory for it.
    pub(crate) fn load(
        source: &Source<'_>,
        name: &str,
        config: &TowerConfig,
    ) -> std::result::Result<Self, LoadError> {
        let TowerConfig { hidden, heads, epsilon, .. } = *config;
        let name = |part: &str| format!("{name}.{part}");
        let weights = source.floats(&name("attention.in_proj_weight"), &[3 * hidden, hidden])?;
        let mut bias = source.floats(&name("attention.in_proj_bias"), &[3 * hidden])?;
        let probe = source.floats(&name("probe"), &[1, 1, hidden])?;
        let (of_question, of_tokens) = weights.split_at(hidden * hidden);
        let bias_of_tokens = bias.split_off(hidden);
        // Widths are far below 2^24.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let scale = 1.0 / ((hidden / heads) as f32).sqrt();
        let asked = of_question.chunks_exact(hidden).zip(&bias).map(|(row, bias)| {
            (row.iter().zip(&probe).map(|(a, b)| a * b).sum::<f32>() + bias) * scale
        });
        Ok(Self {
            question: source.table(asked.collect(), &[1, heads, 1, hidden / heads])?,
            keys_values: Linear::new(source, of_tokens, (hidden, bias_of_tokens))?,
            mixed: Linear::load(source, (&name("attention.out_proj"), None), (hidden, hidden))?,
            norm: Norm::load(source, &name("layernorm"), (hidden, epsilon))?,
            mlp: Mlp::load(source, |part| name(part), (config, None))?,
        })
    }

    /// Memory that all tensors take together.
    pub(crate) fn bytes(&self) -> usize {
        let linears = [&self.keys_values, &self.mixed].into_iter().flat_map(Linear::tensors);
        let others = linears.chain(self.norm.tensors()).chain(self.mlp.tensors());
        others.chain([&self.question]).map(bytes).sum()
    }

    /// One row for each of `count` images out of one for each of their tokens, of which all have the same number.
    pub(crate) fn apply(&self, x: &Tensor, count: usize) -> Result<Tensor> {
        let (rows, hidden) = x.dims2()?;
        let (_, heads, one, width) = self.question.dims4()?;
        let joined = self.keys_values.apply(x)?;
        let [keys, values] = by_head(&joined, [count, rows / count, heads])?;
        let question = self.question.broadcast_as((count, heads, one, width))?.contiguous()?;
        let shares = question.matmul(&keys.transpose(D::Minus2, D::Minus1)?.contiguous()?)?;
        let found = softmax_last_dim(&shares)?.matmul(&values)?.reshape((count, hidden))?;
        let x = self.mixed.apply(&found)?;
        (&x + self.mlp.apply(&self.norm.apply(&x)?)?)?.to_dtype(DType::F32)
    }
}
