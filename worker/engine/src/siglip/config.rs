//! What a `SigLIP` model says about itself, checked.
//!
//! A setting that would change the numbers and that this engine does not know is refused: an unknown model is
//! better than a wrong answer.

use std::path::Path;

use serde::Deserialize;

use crate::LoadError;
use crate::towers::{
    Activation, End, NetworkFile, TextConfig, TowerConfig, VisionConfig, known, read_config,
};

/// Both networks, whose vectors have as many numbers as a token of the first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SiglipConfig {
    pub(crate) vision: VisionConfig,
    pub(crate) text: TextConfig,
}

impl SiglipConfig {
    /// # Errors
    /// When the file is missing or not valid, or describes something this engine does not do.
    pub(crate) fn read(directory: &Path) -> Result<Self, LoadError> {
        read_config(directory, File::config)
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    text_config: TextFile,
    #[serde(default)]
    vision_config: VisionFile,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TextFile {
    #[serde(flatten)]
    network: NetworkFile,
    projection_size: Option<usize>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct VisionFile {
    #[serde(flatten)]
    network: NetworkFile,
    vision_use_head: Option<bool>,
}

/// What a file may leave out, which is as in transformers.
const USUAL_TOWER: TowerConfig = TowerConfig {
    hidden: 768,
    layers: 12,
    heads: 12,
    wide: 3_072,
    activation: Activation::TanhGelu,
    epsilon: 1e-6,
};
const USUAL_VISION: VisionConfig =
    VisionConfig { tower: USUAL_TOWER, side: 224, patch: 16, leading: 0 };
const USUAL_VOCABULARY: usize = 32_000;
const USUAL_POSITIONS: usize = 64;

impl File {
    fn config(self) -> Result<SiglipConfig, String> {
        if self.vision_config.vision_use_head == Some(false) {
            return Err("vision_use_head is false, only true is supported".to_owned());
        }
        let vision = self.vision_config.network.vision(&USUAL_VISION)?;
        let text = self.text_config.config()?;
        let width = vision.tower.hidden;
        let projected = self.text_config.projection_size.unwrap_or(text.tower.hidden);
        if projected != width {
            return Err(format!(
                "vectors of texts have {projected} numbers (projection_size), those of images {width} (hidden_size)"
            ));
        }
        Ok(SiglipConfig { vision, text })
    }
}

impl TextFile {
    fn config(&self) -> Result<TextConfig, String> {
        let network = &self.network;
        let vocabulary = network.vocab_size.unwrap_or(USUAL_VOCABULARY);
        let positions = network.max_position_embeddings.unwrap_or(USUAL_POSITIONS);
        Ok(TextConfig {
            tower: network.tower(&USUAL_TOWER)?,
            vocabulary: known("vocab_size", vocabulary, 10_000_000)?,
            positions: known("max_position_embeddings", positions, 65_536)?,
            end: End::Last,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(file: Value) -> Result<SiglipConfig, String> {
        serde_json::from_value::<File>(file).unwrap().config()
    }

    #[test]
    fn what_is_left_out_is_as_in_transformers() {
        let SiglipConfig { vision, text } = config(json!({})).unwrap();
        assert_eq!((vision.tokens(), text.positions, text.vocabulary), (196, 64, 32_000));
        assert_eq!((text.tower.hidden, vision.tower.hidden), (768, 768));
        assert_eq!(vision.tower.activation, Activation::TanhGelu);
    }

    #[test]
    fn patches_need_not_fill_an_image() {
        let file = json!({"vision_config": {"image_size": 384, "patch_size": 14}});
        assert_eq!(config(file).unwrap().vision.tokens(), 27 * 27);
    }

    #[test]
    fn what_is_not_known_or_makes_no_sense_is_refused() {
        for (file, part) in [
            (json!({"vision_config": {"vision_use_head": false}}), "vision_use_head"),
            (json!({"vision_config": {"patch_size": 225}}), "patch_size is 225"),
            (json!({"vision_config": {"hidden_size": 1152}}), "have 768 numbers"),
            (json!({"text_config": {"projection_size": 512}}), "have 512 numbers"),
            (json!({"text_config": {"hidden_act": "relu"}}), "relu"),
            (json!({"text_config": {"vocab_size": 0}}), "vocab_size is 0"),
        ] {
            let error = config(file).unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
