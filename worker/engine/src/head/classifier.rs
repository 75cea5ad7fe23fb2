//! The head of a sequence classifier: two linear layers over the first token of each text.

use candle_core::{Result, Tensor};
use stoker_engine_api::Labels;

use crate::encoder::{EncoderConfig, Family};
use crate::pooling::first_rows;
use crate::source::{Source, bytes};
use crate::texts::Texts;
use crate::{LoadError, Precision};

/// What stands between the two layers.
#[derive(Debug, Clone, Copy)]
enum Activation {
    Tanh,
    Relu,
}

pub(crate) struct Classifier {
    dense: Tensor,
    dense_bias: Tensor,
    activation: Activation,
    out: Tensor,
    out_bias: Tensor,
    /// Scores are shares of one whole.
    exclusive: bool,
}

impl Classifier {
    pub(super) fn load(
        network: &Source<'_>,
        top: &Source<'_>,
        encoder: &EncoderConfig,
        labels: &Labels,
    ) -> std::result::Result<Self, LoadError> {
        // The rows of first tokens are f32 whatever the network computes with, and there are few.
        let [network, top] =
            [network, top].map(|part| Source { precision: Precision::F32, ..*part });
        // BERT's first layer is its pooler, which is part of the network.
        let (dense_of, dense, activation, out) = match encoder.family {
            Family::Bert => (network, "pooler.dense", Activation::Tanh, "classifier"),
            Family::Roberta => (top, "classifier.dense", Activation::Tanh, "classifier.out_proj"),
            Family::DistilBert => (top, "pre_classifier", Activation::Relu, "classifier"),
        };
        let Labels { names, exclusive } = labels;
        let (hidden, labels) = (encoder.hidden, names.len());
        Ok(Self {
            dense: dense_of.linear(dense, hidden, hidden)?,
            dense_bias: dense_of.bias(dense, hidden)?,
            activation,
            out: top.linear(out, hidden, labels)?,
            out_bias: top.bias(out, labels)?,
            exclusive: *exclusive,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let tensors = [&self.dense, &self.dense_bias, &self.out, &self.out_bias];
        tensors.into_iter().map(bytes).sum()
    }

    /// A score of each label, for each text.
    pub(super) fn scores(&self, tokens: &Tensor, texts: &Texts) -> Result<Vec<Vec<f32>>> {
        let firsts = first_rows(tokens, texts)?;
        let dense = firsts.matmul(&self.dense)?.broadcast_add(&self.dense_bias)?;
        let dense = match self.activation {
            Activation::Tanh => dense.tanh()?,
            Activation::Relu => dense.relu()?,
        };
        let logits = dense.matmul(&self.out)?.broadcast_add(&self.out_bias)?;
        let mut rows = logits.to_vec2()?;
        for row in &mut rows {
            if self.exclusive { softmax(row) } else { sigmoid(row) }
        }
        Ok(rows)
    }
}

/// Shares of one whole. A number that is not finite makes all of them so.
pub(crate) fn softmax(logits: &mut [f32]) {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |max, logit| max.max(*logit));
    let mut sum = 0.0;
    for logit in logits.iter_mut() {
        *logit = (*logit - largest).exp();
        sum += *logit;
    }
    for share in logits {
        *share /= sum;
    }
}

/// A probability of each. Written so that neither end overflows.
fn sigmoid(logits: &mut [f32]) {
    for logit in logits {
        let small = (-logit.abs()).exp();
        let below = small / (1.0 + small);
        *logit = if *logit >= 0.0 { 1.0 - below } else { below };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f32], expected: &[f32]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
    }

    #[test]
    fn shares_sum_to_one_whatever_the_size_of_the_numbers() {
        let mut logits = [0.0, 2.0_f32.ln(), 5.0_f32.ln()];
        softmax(&mut logits);
        close(&logits, &[0.125, 0.25, 0.625]);
        let mut logits = [1e4, -1e4, 1e4];
        softmax(&mut logits);
        close(&logits, &[0.5, 0.0, 0.5]);
    }

    #[test]
    fn probabilities_stay_between_zero_and_one() {
        let mut logits = [0.0, 3.0_f32.ln(), -(3.0_f32.ln()), 1e4, -1e4];
        sigmoid(&mut logits);
        close(&logits, &[0.5, 0.75, 0.25, 1.0, 0.0]);
    }

    #[test]
    fn a_number_that_is_none_is_not_hidden() {
        for to_scores in [softmax as fn(&mut [f32]), sigmoid] {
            let mut logits = [f32::NAN, 1.0];
            to_scores(&mut logits);
            assert!(!logits[0].is_finite());
        }
        let mut logits = [f32::INFINITY, 1.0];
        softmax(&mut logits);
        assert!(!logits[0].is_finite());
    }
}
