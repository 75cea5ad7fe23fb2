//! The network of texts: the vector of the token that ends a text.

use candle_core::{Result, Tensor, bail};

use super::config::{End, TextConfig};
use super::tower::{Norm, Sight, Tower};
use crate::LoadError;
use crate::head::softmax;
use crate::pooling::normalize;
use crate::source::{Source, bytes};
use crate::texts::Texts;

/// Tokens that are worked on at a time.
const TILE_TOKENS: usize = 4_096;

/// A loaded network. Immutable; any number of threads may use it at the same time.
pub(crate) struct TextTower {
    pub(crate) words: Words,
    pub(crate) end: End,
    pub(crate) tower: Tower,
    pub(crate) last_norm: Norm,
    pub(crate) projection: Projection,
    pub(crate) comparison: Comparison,
}

/// What makes tokens of texts.
pub(crate) struct Words {
    words: Tensor,
    positions: Tensor,
}

/// What makes the vector of a text out of its end's.
pub(crate) struct Projection {
    /// Ready to multiply from the right.
    pub(crate) weights: Tensor,
    pub(crate) bias: Option<Tensor>,
}

/// How the products of an image's vector and those of labels become scores.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comparison {
    /// What a product is multiplied by first.
    pub(crate) scale: f32,
    pub(crate) fit: Fit,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fit {
    /// Scores are shares of one whole.
    Shares,
    /// Each is a probability of its own, of the scaled product and this number.
    Each { bias: f32 },
}

impl Words {
    /// # Errors
    /// When a tensor is missing or has another shape, or the device has no memory for it.
    pub(crate) fn load(
        source: &Source<'_>,
        config: &TextConfig,
    ) -> std::result::Result<Self, LoadError> {
        let table = |name: &str, rows: usize| {
            let (name, shape) = (format!("embeddings.{name}.weight"), [rows, config.tower.hidden]);
            source.table(source.floats(&name, &shape)?, &shape)
        };
        Ok(Self {
            words: table("token_embedding", config.vocabulary)?,
            positions: table("position_embedding", config.positions)?,
        })
    }

    /// One row for each token of texts of one length.
    fn tokens(&self, ids: Vec<u32>, [count, length]: [usize; 2]) -> Result<Tensor> {
        let ids = Tensor::from_vec(ids, count * length, self.words.device())?;
        let words = self.words.index_select(&ids, 0)?;
        let hidden = words.dim(1)?;
        let x = words.reshape((count, length, hidden))?;
        x.broadcast_add(&self.positions.narrow(0, 0, length)?)?.reshape((count * length, hidden))
    }
}

impl Projection {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.matmul(&self.weights)?;
        match &self.bias {
            None => Ok(x),
            Some(bias) => x.broadcast_add(bias),
        }
    }
}

impl Comparison {
    /// A score for each label's vector.
    pub(crate) fn scores(&self, image: &[f32], labels: &[Vec<f32>]) -> Vec<f32> {
        let product = |label: &Vec<f32>| -> f32 {
            self.scale * image.iter().zip(label).map(|(a, b)| a * b).sum::<f32>()
        };
        let mut scores: Vec<f32> = labels.iter().map(product).collect();
        match self.fit {
            Fit::Shares => softmax(&mut scores),
            Fit::Each { bias } => {
                for score in &mut scores {
                    *score = 1.0 / (1.0 + (-*score - bias).exp());
                }
            }
        }
        scores
    }
}

impl TextTower {
    /// Memory that all tensors take together.
    pub(crate) fn bytes(&self) -> usize {
        let others = [&self.words.words, &self.words.positions, &self.projection.weights];
        let others = others.into_iter().chain(&self.projection.bias);
        let others = self.last_norm.tensors().into_iter().chain(others);
        self.tower.bytes() + others.map(bytes).sum::<usize>()
    }

    /// A vector of length 1 for each text, given as token ids.
    pub(crate) fn vectors(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let mut vectors = Vec::with_capacity(texts.len());
        for texts in texts.chunks((TILE_TOKENS / longest).max(1)) {
            vectors.extend(self.tile(texts)?);
        }
        Ok(vectors)
    }

    /// Texts are filled up to one length behind their ends, where nothing that counts looks; those that end at the last
    /// place are of one length.
    fn tile(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let (count, length) = (texts.len(), texts.iter().map(Vec::len).max().unwrap_or(0));
        let device = self.words.words.device();
        let filled = |text: &Vec<u32>| {
            let mut text = text.clone();
            text.resize(length, 0);
            text
        };
        let ids: Vec<u32> = texts.iter().flat_map(filled).collect();
        let x = self.words.tokens(ids, [count, length])?;
        let x = match self.end {
            End::Token(_) | End::Largest => self.tower.forward(x, &Sight::Back(count, length))?,
            End::Last => {
                self.tower.forward(x, &Sight::All(&Texts::new(vec![length; count], device)?))?
            }
        };
        let rows = texts.iter().enumerate().map(|(index, text)| {
            let Some(end) = self.end.of(text) else { bail!("a text without an end") };
            u32::try_from(index * length + end).map_err(candle_core::Error::wrap)
        });
        let rows = rows.collect::<Result<Vec<u32>>>()?;
        let ends = x.index_select(&Tensor::from_vec(rows, count, device)?, 0)?;
        let ends = self.last_norm.apply(&ends.to_dtype(candle_core::DType::F32)?)?;
        let mut vectors = self.projection.apply(&ends)?.to_vec2()?;
        for vector in &mut vectors {
            normalize(vector);
        }
        Ok(vectors)
    }
}

impl End {
    /// The place of the token that ends a text.
    pub(crate) fn of(self, text: &[u32]) -> Option<usize> {
        match self {
            Self::Token(end) => text.iter().position(|token| *token == end),
            Self::Largest => {
                let largest = text.iter().max()?;
                text.iter().position(|token| token == largest)
            }
            Self::Last => text.len().checked_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_become_shares_or_probabilities() {
        let (image, labels) = (&[1.0, 0.0][..], &[vec![0.5, 0.2], vec![-0.5, 0.2]][..]);
        let shares = Comparison { scale: 2.0, fit: Fit::Shares }.scores(image, labels);
        let each = Comparison { scale: 2.0, fit: Fit::Each { bias: 1.0 } }.scores(image, labels);
        for (found, expected) in
            shares.iter().chain(&each).zip([0.880_797, 0.119_203, 0.880_797, 0.5])
        {
            assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
    }

    #[test]
    fn a_text_ends_where_its_end_stands_first() {
        assert_eq!(End::Token(9).of(&[8, 1, 9, 2, 9]), Some(2));
        assert_eq!(End::Token(9).of(&[8, 1]), None);
        assert_eq!(End::Largest.of(&[8, 1, 9, 9]), Some(2));
        assert_eq!(End::Largest.of(&[]), None);
        assert_eq!((End::Last.of(&[8, 1, 9, 9]), End::Last.of(&[])), (Some(3), None));
    }
}
