//! `DINOv2`: a network of images alone, whose vectors lie close to each other where images look alike.

mod config;
mod positions;

pub(crate) use config::DinoConfig;

use crate::LoadError;
use crate::source::Source;
use crate::towers::patches::{COLORS, Patches, TokenNumbers};
use crate::towers::tower::{Names, Norm, Tower};
use crate::towers::{Pooled, VisionConfig, VisionTower};

/// What stands before the names in files of a network with a head for labels on top, which is left out.
const NAMED: [&str; 2] = ["dinov2.", "dinov2_with_registers."];

/// Takes the network out of a model's weights.
///
/// # Errors
/// When a tensor is missing or has another shape, or the device has no memory or no kernels for it.
pub(crate) fn load_vision(top: &Source<'_>, config: &DinoConfig) -> Result<VisionTower, LoadError> {
    let mut named = NAMED.map(|prefix| Source { prefix, ..*top }).into_iter();
    let source = &named.find(|source| source.has("embeddings.cls_token")).unwrap_or(*top);
    let VisionConfig { tower, patch, leading, .. } = &config.vision;
    let hidden = tower.hidden;
    let floats = |name: &str, shape: &[usize]| source.floats(&format!("embeddings.{name}"), shape);
    let mut first = floats("cls_token", &[1, 1, hidden])?;
    let registers = leading - 1;
    if registers > 0 {
        first.extend(floats("register_tokens", &[1, registers, hidden])?);
    }
    let numbers = TokenNumbers {
        patches: floats("patch_embeddings.projection.weight", &[hidden, COLORS, *patch, *patch])?,
        bias: Some(floats("patch_embeddings.projection.bias", &[hidden])?),
        leading: first,
        positions: positions(source, config)?,
    };
    let norm = (hidden, tower.epsilon);
    Ok(VisionTower {
        patches: Patches::load(source, &config.vision, numbers)?,
        first_norm: None,
        tower: Tower::load(source, tower, Names::Dino)?,
        last_norm: Norm::load(&source.exact(), "layernorm", norm)?,
        pooled: Pooled::First,
    })
}

/// A row for each token: what the file has for the first, nothing for those that are only worked with, and for patches
/// what lies between those of training.
fn positions(source: &Source<'_>, config: &DinoConfig) -> Result<Vec<f32>, LoadError> {
    let DinoConfig { vision, trained_across, between } = config;
    let VisionConfig { tower, side, patch, leading } = vision;
    let hidden = tower.hidden;
    let shape = [1, trained_across * trained_across + 1, hidden];
    let trained = source.floats("embeddings.position_embeddings", &shape)?;
    let (first, patches) = trained.split_at(hidden);
    let mut rows = first.to_vec();
    rows.resize(leading * hidden, 0.0);
    let across = (*trained_across, side / patch);
    rows.extend(positions::resized(patches, hidden, across, *between));
    Ok(rows)
}
