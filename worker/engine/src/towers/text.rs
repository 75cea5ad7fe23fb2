//! The network of texts: the vector of the token that ends a text.

use candle_core::{Result, Tensor, bail};

use super::config::End;
use super::tower::{Norm, Sight, Tower};
use crate::pooling::normalize;
use crate::source::bytes;

/// Tokens that are worked on at a time.
const TILE_TOKENS: usize = 4_096;

/// A loaded network. Immutable; any number of threads may use it at the same time.
pub(crate) struct TextTower {
    pub(crate) words: Tensor,
    pub(crate) positions: Tensor,
    pub(crate) end: End,
    pub(crate) tower: Tower,
    pub(crate) last_norm: Norm,
    pub(crate) projection: Tensor,
    /// What a product of two vectors is multiplied by before it is compared with others.
    pub(crate) scale: f32,
}

impl TextTower {
    /// Memory that all tensors take together.
    pub(crate) fn bytes(&self) -> usize {
        let others = [&self.words, &self.positions, &self.projection];
        let others = self.last_norm.tensors().into_iter().chain(others);
        self.tower.bytes() + others.map(bytes).sum::<usize>()
    }

    pub(crate) const fn scale(&self) -> f32 {
        self.scale
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

    /// Texts are filled up to one length behind their ends, where nothing that counts looks.
    fn tile(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let (count, length) = (texts.len(), texts.iter().map(Vec::len).max().unwrap_or(0));
        let device = self.words.device();
        let filled = |text: &Vec<u32>| {
            let mut text = text.clone();
            text.resize(length, 0);
            text
        };
        let ids: Vec<u32> = texts.iter().flat_map(filled).collect();
        let words = self.words.index_select(&Tensor::from_vec(ids, count * length, device)?, 0)?;
        let hidden = words.dim(1)?;
        let words = words.reshape((count, length, hidden))?;
        let x = words.broadcast_add(&self.positions.narrow(0, 0, length)?)?;
        let x = x.reshape((count * length, hidden))?;
        let x = self.tower.forward(x, &Sight::Back(count, length))?;
        let rows = texts.iter().enumerate().map(|(index, text)| {
            let Some(end) = self.end.of(text) else { bail!("a text without an end") };
            u32::try_from(index * length + end).map_err(candle_core::Error::wrap)
        });
        let rows = rows.collect::<Result<Vec<u32>>>()?;
        let ends = x.index_select(&Tensor::from_vec(rows, count, device)?, 0)?;
        let ends = self.last_norm.apply(&ends.to_dtype(candle_core::DType::F32)?)?;
        let mut vectors = ends.matmul(&self.projection)?.to_vec2()?;
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_where_its_end_stands_first() {
        assert_eq!(End::Token(9).of(&[8, 1, 9, 2, 9]), Some(2));
        assert_eq!(End::Token(9).of(&[8, 1]), None);
        assert_eq!(End::Largest.of(&[8, 1, 9, 9]), Some(2));
        assert_eq!(End::Largest.of(&[]), None);
    }
}
