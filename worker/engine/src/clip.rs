//! CLIP: a network of images and one of texts, whose vectors lie close to each other where they fit.

mod config;

pub(crate) use config::ClipConfig;

use crate::LoadError;
use crate::source::Source;
use crate::towers::patches::{COLORS, Patches, TokenNumbers};
use crate::towers::tower::{Names, Norm, Tower};
use crate::towers::{
    Comparison, Fit, Pooled, Projection, TextConfig, TextTower, VisionConfig, VisionTower, Words,
};

/// Takes the network of images out of a CLIP model's weights.
///
/// # Errors
/// When a tensor is missing or has another shape, or the device has no memory or no kernels for it.
pub(crate) fn load_vision(top: &Source<'_>, config: &ClipConfig) -> Result<VisionTower, LoadError> {
    let ClipConfig { vision, width, .. } = config;
    let VisionConfig { tower, patch, .. } = vision;
    let hidden = tower.hidden;
    let source = Source { prefix: "vision_model.", ..*top };
    let floats = |name: &str, shape: &[usize]| source.floats(&format!("embeddings.{name}"), shape);
    let numbers = TokenNumbers {
        patches: floats("patch_embedding.weight", &[hidden, COLORS, *patch, *patch])?,
        bias: None,
        leading: floats("class_embedding", &[hidden])?,
        positions: floats("position_embedding.weight", &[vision.tokens(), hidden])?,
    };
    let norm = (hidden, tower.epsilon);
    Ok(VisionTower {
        patches: Patches::load(&source, vision, numbers)?,
        first_norm: Some(Norm::load(&source, "pre_layrnorm", norm)?),
        tower: Tower::load(&source, tower, Names::Clip)?,
        last_norm: Norm::load(&source.exact(), "post_layernorm", norm)?,
        pooled: Pooled::Projected(top.exact().linear("visual_projection", hidden, *width)?),
    })
}

/// Takes the network of texts out of a CLIP model's weights.
///
/// # Errors
/// As [`load_vision`].
pub(crate) fn load_text(top: &Source<'_>, config: &ClipConfig) -> Result<TextTower, LoadError> {
    let ClipConfig { text, width, .. } = config;
    let TextConfig { tower, end, .. } = text;
    let hidden = tower.hidden;
    let source = Source { prefix: "text_model.", ..*top };
    let scale = top.exact().floats("logit_scale", &[])?;
    Ok(TextTower {
        words: Words::load(&source, text)?,
        end: *end,
        tower: Tower::load(&source, tower, Names::Clip)?,
        last_norm: Norm::load(&source.exact(), "final_layer_norm", (hidden, tower.epsilon))?,
        projection: Projection {
            weights: top.exact().linear("text_projection", hidden, *width)?,
            bias: None,
        },
        comparison: Comparison { scale: scale.iter().sum::<f32>().exp(), fit: Fit::Shares },
    })
}
