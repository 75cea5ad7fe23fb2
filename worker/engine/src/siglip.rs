//! `SigLIP`: a network of images and one of texts, whose products say of each text by itself whether it fits.

mod config;

pub(crate) use config::SiglipConfig;

use crate::LoadError;
use crate::source::Source;
use crate::towers::patches::{COLORS, Patches, TokenNumbers};
use crate::towers::tower::{Names, Norm, Tower};
use crate::towers::{
    Asking, Comparison, Fit, Pooled, Projection, TextConfig, TextTower, VisionConfig, VisionTower,
    Words,
};

/// Takes the network of images out of a model's weights.
///
/// # Errors
/// When a tensor is missing or has another shape, or the device has no memory or no kernels for it.
pub(crate) fn load_vision(
    top: &Source<'_>,
    config: &SiglipConfig,
) -> Result<VisionTower, LoadError> {
    let vision = &config.vision;
    let VisionConfig { tower, patch, .. } = vision;
    let hidden = tower.hidden;
    let source = Source { prefix: "vision_model.", ..*top };
    let floats = |name: &str, shape: &[usize]| source.floats(&format!("embeddings.{name}"), shape);
    let numbers = TokenNumbers {
        patches: floats("patch_embedding.weight", &[hidden, COLORS, *patch, *patch])?,
        bias: Some(floats("patch_embedding.bias", &[hidden])?),
        leading: Vec::new(),
        positions: floats("position_embedding.weight", &[vision.tokens(), hidden])?,
    };
    Ok(VisionTower {
        patches: Patches::load(&source, vision, numbers)?,
        first_norm: None,
        tower: Tower::load(&source, tower, Names::Clip)?,
        last_norm: Norm::load(&source, "post_layernorm", (hidden, tower.epsilon))?,
        pooled: Pooled::Asked(Asking::load(&source, "head", tower)?),
    })
}

/// Takes the network of texts out of a model's weights.
///
/// # Errors
/// As [`load_vision`].
pub(crate) fn load_text(top: &Source<'_>, config: &SiglipConfig) -> Result<TextTower, LoadError> {
    let SiglipConfig { vision, text } = config;
    let TextConfig { tower, end, .. } = text;
    let source = Source { prefix: "text_model.", ..*top };
    let exact = source.exact();
    let number = |name: &str| Ok(top.floats(name, &[1])?.iter().sum::<f32>());
    Ok(TextTower {
        words: Words::load(&source, text)?,
        end: *end,
        tower: Tower::load(&source, tower, Names::Clip)?,
        last_norm: Norm::load(&exact, "final_layer_norm", (tower.hidden, tower.epsilon))?,
        projection: Projection {
            weights: exact.linear("head", tower.hidden, vision.tower.hidden)?,
            bias: Some(exact.bias("head", vision.tower.hidden)?),
        },
        comparison: Comparison {
            scale: number("logit_scale")?.exp(),
            fit: Fit::Each { bias: number("logit_bias")? },
        },
    })
}
