//! The network of images: patches as tokens, and the vector of the token that stands for all of them.

use candle_core::{Result, Tensor};

use super::config::{ClipConfig, VisionConfig};
use super::patches::{COLORS, cut};
use super::tower::{Names, Norm, Sight, Tower};
use crate::LoadError;
use crate::pooling::{first_rows, normalize};
use crate::source::{Source, bytes};
use crate::texts::Texts;

/// A loaded network. Immutable; any number of threads may use it at the same time.
pub(crate) struct VisionTower {
    config: VisionConfig,
    /// A patch's pixels, color by color, to its vector; ready to multiply from the right.
    patches: Tensor,
    /// The vector of the token that stands for all, which is the first.
    whole: Tensor,
    positions: Tensor,
    first_norm: Norm,
    tower: Tower,
    last_norm: Norm,
    projection: Tensor,
}

impl VisionTower {
    /// Takes the network out of a CLIP model's weights.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, or the device has no memory or no kernels for it.
    pub(crate) fn load(
        top: &Source<'_>,
        config: &ClipConfig,
    ) -> std::result::Result<Self, LoadError> {
        let ClipConfig { vision, width, .. } = config;
        let VisionConfig { tower, side: _, patch } = vision;
        let hidden = tower.hidden;
        let source = Source { prefix: "vision_model.", ..*top };
        let names = |name: &str| format!("embeddings.{name}");
        let norm = (hidden, tower.epsilon);
        let shape = [hidden, COLORS, *patch, *patch];
        let patches = source.floats(&names("patch_embedding.weight"), &shape)?;
        let positions = [vision.tokens(), hidden];
        Ok(Self {
            config: vision.clone(),
            patches: source.matrix(&patches, COLORS * patch * patch)?,
            whole: source
                .table(source.floats(&names("class_embedding"), &[hidden])?, &[1, 1, hidden])?,
            positions: source.table(
                source.floats(&names("position_embedding.weight"), &positions)?,
                &positions,
            )?,
            first_norm: Norm::load(&source, "pre_layrnorm", norm)?,
            tower: Tower::load(&source, tower, Names::Clip)?,
            last_norm: Norm::load(&source.exact(), "post_layernorm", norm)?,
            projection: top.exact().linear("visual_projection", hidden, *width)?,
        })
    }

    /// Memory that all tensors take together.
    pub(crate) fn bytes(&self) -> usize {
        let norms = [&self.first_norm, &self.last_norm].into_iter().flat_map(Norm::tensors);
        let others = [&self.patches, &self.whole, &self.positions, &self.projection];
        self.tower.bytes() + norms.chain(others).map(bytes).sum::<usize>()
    }

    /// A vector of length 1 for each image. An image is `side` rows of `side` pixels, each red, green and
    /// blue; `numbers` are what their values stand for.
    pub(crate) fn vectors(
        &self,
        images: &[&[u8]],
        numbers: &[Vec<f32>; 3],
    ) -> Result<Vec<Vec<f32>>> {
        let (patches, tokens) = (self.config.patches(), self.config.tokens());
        let (count, hidden) = (images.len(), self.config.tower.hidden);
        let device = self.patches.device();
        let width = self.patches.dim(0)?;
        let pixels: Vec<f32> =
            images.iter().flat_map(|image| cut(image, &self.config, numbers)).collect();
        let pixels = Tensor::from_vec(pixels, (count * patches, width), device)?;
        let parts = pixels.to_dtype(self.patches.dtype())?.matmul(&self.patches)?;
        let parts = parts.reshape((count, patches, hidden))?;
        let whole = self.whole.broadcast_as((count, 1, hidden))?;
        let x = Tensor::cat(&[&whole, &parts], 1)?.broadcast_add(&self.positions)?;
        let x = self.first_norm.apply(&x.reshape((count * tokens, hidden))?)?;
        let places = Texts::new(vec![tokens; count], device)?;
        let x = self.tower.forward(x, &Sight::All(&places))?;
        let firsts = self.last_norm.apply(&first_rows(&x, &places)?)?;
        let mut vectors = firsts.matmul(&self.projection)?.to_vec2()?;
        for vector in &mut vectors {
            normalize(vector);
        }
        Ok(vectors)
    }
}
