//! The network of images: patches as tokens, each of which sees all others.

use candle_core::{Result, Tensor};

use crate::LoadError;
use crate::clip::VisionConfig;
use crate::clip::patches::{COLORS, cut};
use crate::clip::tower::{Names, Norm, Sight, Tower};
use crate::source::{Source, bytes};
use crate::texts::Texts;

pub(super) struct Vision {
    config: VisionConfig,
    /// A patch's pixels, color by color, to its vector; ready to multiply from the right.
    patches: Tensor,
    /// The vector of the token that stands for all, which is the first.
    whole: Tensor,
    /// What is added to each token: for where it is, and the bias of patches.
    positions: Tensor,
    tower: Tower,
    last_norm: Norm,
}

impl Vision {
    pub(super) fn load(
        top: &Source<'_>,
        config: &VisionConfig,
    ) -> std::result::Result<Self, LoadError> {
        let VisionConfig { tower, patch, .. } = config;
        let (hidden, tokens) = (tower.hidden, config.tokens());
        let source = Source { prefix: "vision_model.", ..*top };
        let floats =
            |name: &str, shape: &[usize]| source.floats(&format!("embeddings.{name}"), shape);
        let patches = floats("patch_embedding.weight", &[hidden, COLORS, *patch, *patch])?;
        let bias = floats("patch_embedding.bias", &[hidden])?;
        let mut positions = floats("position_embedding", &[1, tokens, hidden])?;
        for row in positions.chunks_exact_mut(hidden).skip(1) {
            for (number, bias) in row.iter_mut().zip(&bias) {
                *number += bias;
            }
        }
        let one = [1, 1, hidden];
        Ok(Self {
            config: config.clone(),
            patches: source.matrix(&patches, COLORS * patch * patch)?,
            whole: source.table(floats("class_embedding", &one)?, &one)?,
            positions: source.table(positions, &[tokens, hidden])?,
            tower: Tower::load(&source, tower, Names::Blip)?,
            last_norm: Norm::load(&source, "post_layernorm", (hidden, tower.epsilon))?,
        })
    }

    /// Memory that all tensors take together.
    pub(super) fn bytes(&self) -> usize {
        let others = [&self.patches, &self.whole, &self.positions];
        let others = others.into_iter().chain(self.last_norm.tensors());
        self.tower.bytes() + others.map(bytes).sum::<usize>()
    }

    /// One row for each token of each image.
    pub(super) fn rows(&self, images: &[&[u8]], numbers: &[Vec<f32>; 3]) -> Result<Tensor> {
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
        let places = Texts::new(vec![tokens; count], device)?;
        let x = self.tower.forward(x.reshape((count * tokens, hidden))?, &Sight::All(&places))?;
        self.last_norm.apply(&x)
    }
}
