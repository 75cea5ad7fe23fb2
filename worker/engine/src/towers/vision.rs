//! A network of images: patches as tokens, and one vector out of all of them.

use candle_core::{Result, Tensor};

use super::asking::Asking;
use super::patches::Patches;
use super::tower::{Norm, Sight, Tower};
use crate::pooling::{first_rows, normalize};
use crate::source::bytes;

/// A loaded network. Immutable; any number of threads may use it at the same time.
pub(crate) struct VisionTower {
    pub(crate) patches: Patches,
    /// Before the layers, if there is one.
    pub(crate) first_norm: Option<Norm>,
    pub(crate) tower: Tower,
    pub(crate) last_norm: Norm,
    pub(crate) pooled: Pooled,
}

/// How the vector of an image comes out of its tokens.
pub(crate) enum Pooled {
    /// It is the first token's.
    First,
    /// It is a product of the first token's.
    Projected(Tensor),
    /// It is what a question that was learned finds in all of them.
    Asked(Asking),
}

impl VisionTower {
    /// Memory that all tensors take together.
    pub(crate) fn bytes(&self) -> usize {
        let norms = self.first_norm.iter().chain([&self.last_norm]).flat_map(Norm::tensors);
        let pooled = match &self.pooled {
            Pooled::First => 0,
            Pooled::Projected(projection) => bytes(projection),
            Pooled::Asked(asking) => asking.bytes(),
        };
        self.patches.bytes() + self.tower.bytes() + norms.map(bytes).sum::<usize>() + pooled
    }

    /// A vector of length 1 for each image. An image is rows of pixels, each red, green and blue; `numbers` are what
    /// their values stand for.
    pub(crate) fn vectors(
        &self,
        images: &[&[u8]],
        numbers: &[Vec<f32>; 3],
    ) -> Result<Vec<Vec<f32>>> {
        let (x, places) = self.patches.tokens(images, numbers)?;
        let x = match &self.first_norm {
            None => x,
            Some(norm) => norm.apply(&x)?,
        };
        let x = self.tower.forward(x, &Sight::All(&places))?;
        let first = || self.last_norm.apply(&first_rows(&x, &places)?);
        let vectors = match &self.pooled {
            Pooled::First => first()?,
            Pooled::Projected(projection) => first()?.matmul(projection)?,
            Pooled::Asked(asking) => asking.apply(&self.last_norm.apply(&x)?, images.len())?,
        };
        let mut vectors = vectors.to_vec2()?;
        for vector in &mut vectors {
            normalize(vector);
        }
        Ok(vectors)
    }
}
