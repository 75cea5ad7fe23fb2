//! What is made of the network's output: the vector of a text, or the scores of labels.

mod classifier;

use candle_core::{Result, Tensor};
use stoker_engine_api::{ItemOutput, Labels, Scores};

use crate::config::HeadConfig;
use crate::encoder::EncoderConfig;
use crate::pooling::normalize;
use crate::source::Source;
use crate::texts::Texts;
use crate::tokens::Tokens;
use crate::{LoadError, Pooling};
use classifier::Classifier;
pub(crate) use classifier::softmax;

/// The last part of a model.
pub(crate) enum Head {
    Vector { pooling: Pooling, normalize: bool },
    Scores { classifier: Classifier, labels: Labels },
}

impl Head {
    /// `network` is where the encoder's own tensors are, `top` what stands beside it.
    pub(crate) fn load(
        network: &Source<'_>,
        top: &Source<'_>,
        encoder: &EncoderConfig,
        config: &HeadConfig,
    ) -> std::result::Result<Self, LoadError> {
        match config {
            HeadConfig::Vector { pooling, normalize } => {
                Ok(Self::Vector { pooling: *pooling, normalize: *normalize })
            }
            HeadConfig::Scores(labels) => {
                let classifier = Classifier::load(network, top, encoder, labels)?;
                Ok(Self::Scores { classifier, labels: labels.clone() })
            }
        }
    }

    /// Memory that all tensors take together.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Vector { .. } => 0,
            Self::Scores { classifier, .. } => classifier.bytes(),
        }
    }

    pub(crate) const fn labels(&self) -> Option<&Labels> {
        match self {
            Self::Vector { .. } => None,
            Self::Scores { labels, .. } => Some(labels),
        }
    }

    /// The numbers of each text, out of one row per token.
    pub(crate) fn numbers(&self, tokens: &Tensor, texts: &Texts) -> Result<Vec<Vec<f32>>> {
        match self {
            Self::Vector { pooling, normalize: scaled } => {
                let mut vectors = pooling.apply(tokens, texts)?;
                if *scaled {
                    for vector in &mut vectors {
                        normalize(vector);
                    }
                }
                Ok(vectors)
            }
            Self::Scores { classifier, .. } => classifier.scores(tokens, texts),
        }
    }

    pub(crate) fn output(&self, numbers: Vec<f32>, text: &Tokens) -> ItemOutput {
        match self {
            Self::Vector { .. } => ItemOutput::Embedding(numbers),
            Self::Scores { .. } => {
                ItemOutput::Scores(Scores { scores: numbers, truncated: text.truncated })
            }
        }
    }

    /// What can't be right about the numbers of an ordinary sentence.
    pub(crate) fn problem(&self, numbers: &[f32]) -> Option<String> {
        match self {
            Self::Vector { normalize, .. } => {
                let norm = numbers.iter().map(|number| number * number).sum::<f32>().sqrt();
                let good = if *normalize { (norm - 1.0).abs() < 1e-3 } else { norm > 0.0 };
                (!good).then(|| format!("a sentence's embedding has the length {norm}"))
            }
            Self::Scores { labels, .. } => {
                let sum: f32 = numbers.iter().sum();
                let good = !labels.exclusive || (sum - 1.0).abs() < 1e-3;
                (!good).then(|| format!("a sentence's scores sum to {sum}"))
            }
        }
    }
}
