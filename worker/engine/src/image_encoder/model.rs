//! The kinds of models that look at images: what their files say, and what is loaded of them.

use std::path::Path;

use serde::Deserialize;

use crate::clip::{self, ClipConfig};
use crate::dino::{self, DinoConfig};
use crate::images::{self, Size};
use crate::siglip::{self, SiglipConfig};
use crate::source::Source;
use crate::towers::{TextConfig, TextTower, VisionConfig, VisionTower, read_config};
use crate::{ImageTask, LoadError};

/// What a model says about itself, checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ModelConfig {
    Clip(ClipConfig),
    Siglip(SiglipConfig),
    Dino(DinoConfig),
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    model_type: String,
}

impl ModelConfig {
    /// # Errors
    /// When `config.json` is missing or not valid, describes something this engine does not do, is about another task,
    /// or does not fit what images become.
    pub(super) fn read(directory: &Path, task: ImageTask, seen: Size) -> Result<Self, LoadError> {
        let model_type = read_config(directory, |Kind { model_type }| match model_type.as_str() {
            "clip" | "siglip" | "dinov2" | "dinov2_with_registers" => Ok(model_type),
            _ => Err(format!(
                "model_type is `{model_type}`, only clip, siglip, dinov2 and dinov2_with_registers are supported"
            )),
        })?;
        let mut config = match model_type.as_str() {
            "clip" => Self::Clip(ClipConfig::read(directory)?),
            "siglip" => Self::Siglip(SiglipConfig::read(directory)?),
            _ => Self::Dino(DinoConfig::read(directory)?),
        };
        if task == ImageTask::Classification && config.text().is_none() {
            let path = directory.join("config.json");
            let what = format!("a {model_type} model reads no labels, it makes vectors only");
            return Err(LoadError::Unsupported { path, what });
        }
        let path = || directory.join(images::FILE_NAME);
        config.see(seen).map_err(|what| LoadError::Unsupported { path: path(), what })?;
        Ok(config)
    }

    /// The network sees a square of one size, which has to be what images become.
    fn see(&mut self, Size { width, height }: Size) -> Result<(), String> {
        if width != height {
            return Err(format!("images become {width} x {height} pixels, which is no square"));
        }
        match self {
            Self::Dino(config) => config.see(width),
            Self::Clip(ClipConfig { vision, .. }) | Self::Siglip(SiglipConfig { vision, .. }) => {
                let side = vision.side;
                if side == width {
                    return Ok(());
                }
                Err(format!("images become {width} x {height} pixels, but image_size is {side}"))
            }
        }
    }

    const fn vision(&self) -> &VisionConfig {
        match self {
            Self::Clip(config) => &config.vision,
            Self::Siglip(config) => &config.vision,
            Self::Dino(config) => &config.vision,
        }
    }

    /// The network of texts, of a kind that has one.
    pub(super) const fn text(&self) -> Option<&TextConfig> {
        match self {
            Self::Clip(config) => Some(&config.text),
            Self::Siglip(config) => Some(&config.text),
            Self::Dino(_) => None,
        }
    }

    /// Tokens of an image.
    pub(super) const fn tokens(&self) -> usize {
        self.vision().tokens()
    }

    /// Numbers of a vector.
    pub(super) const fn width(&self) -> usize {
        match self {
            Self::Clip(config) => config.width,
            Self::Siglip(config) => config.vision.tower.hidden,
            Self::Dino(config) => config.vision.tower.hidden,
        }
    }

    pub(super) fn load_vision(&self, source: &Source<'_>) -> Result<VisionTower, LoadError> {
        match self {
            Self::Clip(config) => clip::load_vision(source, config),
            Self::Siglip(config) => siglip::load_vision(source, config),
            Self::Dino(config) => dino::load_vision(source, config),
        }
    }

    /// The network of texts, of a kind that has one.
    pub(super) fn load_text(&self, source: &Source<'_>) -> Result<Option<TextTower>, LoadError> {
        match self {
            Self::Clip(config) => clip::load_text(source, config).map(Some),
            Self::Siglip(config) => siglip::load_text(source, config).map(Some),
            Self::Dino(_) => Ok(None),
        }
    }
}
