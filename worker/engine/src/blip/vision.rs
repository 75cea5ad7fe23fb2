//! The network of images: patches as tokens, each of which sees all others.

use candle_core::{Result, Tensor};

use crate::LoadError;
use crate::source::{Source, bytes};
use crate::towers::VisionConfig;
use crate::towers::patches::{COLORS, Patches, TokenNumbers};
use crate::towers::tower::{Names, Norm, Sight, Tower};

pub(super) struct Vision {
    patches: Patches,
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
        let numbers = TokenNumbers {
            patches: floats("patch_embedding.weight", &[hidden, COLORS, *patch, *patch])?,
            bias: Some(floats("patch_embedding.bias", &[hidden])?),
            leading: floats("class_embedding", &[1, 1, hidden])?,
            positions: floats("position_embedding", &[1, tokens, hidden])?,
        };
        Ok(Self {
            patches: Patches::load(&source, config, numbers)?,
            tower: Tower::load(&source, tower, Names::Blip)?,
            last_norm: Norm::load(&source, "post_layernorm", (hidden, tower.epsilon))?,
        })
    }

    /// Memory that all tensors take together.
    pub(super) fn bytes(&self) -> usize {
        let norm = self.last_norm.tensors().into_iter().map(bytes).sum::<usize>();
        self.patches.bytes() + self.tower.bytes() + norm
    }

    /// One row for each token of each image.
    pub(super) fn rows(&self, images: &[&[u8]], numbers: &[Vec<f32>; 3]) -> Result<Tensor> {
        let (x, places) = self.patches.tokens(images, numbers)?;
        self.last_norm.apply(&self.tower.forward(x, &Sight::All(&places))?)
    }
}
