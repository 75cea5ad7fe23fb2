//! What a CLIP model says about itself, checked.
//!
//! A setting that would change the numbers and that this engine does not know is refused: an unknown model is
//! better than a wrong answer.

use std::path::Path;

use serde::Deserialize;

use crate::LoadError;
use crate::towers::{
    Activation, End, NetworkFile, TextConfig, TowerConfig, VisionConfig, known, read_config,
};

/// Both networks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClipConfig {
    pub(crate) vision: VisionConfig,
    pub(crate) text: TextConfig,
    /// Numbers of the vectors that are compared.
    pub(crate) width: usize,
}

impl ClipConfig {
    /// # Errors
    /// When the file is missing or not valid, or describes something this engine does not do.
    pub(crate) fn read(directory: &Path) -> Result<Self, LoadError> {
        read_config(directory, File::config)
    }
}

#[derive(Deserialize)]
struct File {
    projection_dim: Option<usize>,
    #[serde(default)]
    text_config: TextFile,
    #[serde(default)]
    vision_config: NetworkFile,
}

/// The network of texts.
#[derive(Deserialize, Default)]
#[serde(default)]
struct TextFile {
    #[serde(flatten)]
    network: NetworkFile,
    eos_token_id: Option<u32>,
}

/// What a file may leave out, which is as in `OpenAI`'s smallest model.
const USUAL_TEXT: TowerConfig = TowerConfig {
    hidden: 512,
    layers: 12,
    heads: 8,
    wide: 2_048,
    activation: Activation::QuickGelu,
    epsilon: 1e-5,
};
const USUAL_VISION: VisionConfig = VisionConfig {
    tower: TowerConfig { hidden: 768, heads: 12, wide: 3_072, ..USUAL_TEXT },
    side: 224,
    patch: 32,
    leading: 1,
};
const USUAL_END: u32 = 49_407;
/// The end that `OpenAI`'s files name wrongly.
const WRONG_END: u32 = 2;

impl File {
    fn config(self) -> Result<ClipConfig, String> {
        let (text, vision) = (&self.text_config, &self.vision_config);
        let width = known("projection_dim", self.projection_dim.unwrap_or(512), 65_536)?;
        Ok(ClipConfig { vision: vision.vision(&USUAL_VISION)?, text: text.config()?, width })
    }
}

impl TextFile {
    fn config(&self) -> Result<TextConfig, String> {
        let network = &self.network;
        let positions = network.max_position_embeddings.unwrap_or(77);
        Ok(TextConfig {
            tower: network.tower(&USUAL_TEXT)?,
            vocabulary: known("vocab_size", network.vocab_size.unwrap_or(49_408), 10_000_000)?,
            positions: known("max_position_embeddings", positions, 65_536)?,
            end: match self.eos_token_id.unwrap_or(USUAL_END) {
                WRONG_END => End::Largest,
                token => End::Token(token),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(file: Value) -> Result<ClipConfig, String> {
        serde_json::from_value::<File>(file).unwrap().config()
    }

    #[test]
    fn what_is_left_out_is_openai_s_smallest_model() {
        let config = config(json!({})).unwrap();
        assert_eq!((config.width, config.vision.tokens(), config.text.positions), (512, 50, 77));
        let (text, vision) = (&config.text.tower, &config.vision.tower);
        assert_eq!((text.hidden, text.heads, vision.hidden, vision.heads), (512, 8, 768, 12));
        assert_eq!(vision.activation, Activation::QuickGelu);
        assert_eq!(config.text.end, End::Token(49_407));
    }

    #[test]
    fn what_is_not_known_or_makes_no_sense_is_refused() {
        for (file, part) in [
            (json!({"projection_dim": 0}), "projection_dim is 0"),
            (json!({"vision_config": {"patch_size": 225}}), "patch_size is 225"),
            (json!({"vision_config": {"num_channels": 1}}), "num_channels"),
            (json!({"vision_config": {"hidden_act": "silu"}}), "silu"),
            (json!({"text_config": {"num_attention_heads": 7}}), "multiple"),
            (json!({"text_config": {"layer_norm_eps": 2.0}}), "eps is 2"),
            (json!({"text_config": {"vocab_size": 0}}), "vocab_size is 0"),
        ] {
            let error = config(file).unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
