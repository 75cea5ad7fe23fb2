//! What a `DINOv2` model says about itself, checked.
//!
//! A setting that would change the numbers and that this engine does not know is refused: an unknown model is
//! better than a wrong answer.

use std::path::Path;

use serde::Deserialize;

use super::positions::Between;
use crate::LoadError;
use crate::towers::{Activation, NetworkFile, TowerConfig, VisionConfig, known, read_config};

/// The network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DinoConfig {
    pub(crate) vision: VisionConfig,
    /// Patches across the images of training, each of which has a position of its own.
    pub(crate) trained_across: usize,
    /// What lies between these positions.
    pub(crate) between: Between,
}

/// The time of an image grows with the fourth power of this, its memory with the second. Such images have 1,400 pixels
/// at a side, 2.7 times those of training.
const MOST_ACROSS: usize = 100;

impl DinoConfig {
    /// # Errors
    /// When the file is missing or not valid, or describes something this engine does not do.
    pub(crate) fn read(directory: &Path) -> Result<Self, LoadError> {
        read_config(directory, File::config)
    }

    /// Sets the pixels of a side of what it sees, which need not be those of training.
    ///
    /// # Errors
    /// When no patch fits into it, or more than any model of this kind is used with.
    pub(crate) fn see(&mut self, side: usize) -> Result<(), String> {
        let patch = self.vision.patch;
        if side < patch {
            return Err(format!("images become {side} pixels wide, less than patch_size, {patch}"));
        }
        let across = side / patch;
        if across > MOST_ACROSS {
            return Err(format!(
                "images become {side} pixels wide, which are {across} patches of {patch}, expected at most {MOST_ACROSS}"
            ));
        }
        self.vision.side = side;
        Ok(())
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    model_type: String,
    #[serde(flatten)]
    network: NetworkFile,
    mlp_ratio: Option<usize>,
    qkv_bias: Option<bool>,
    use_swiglu_ffn: Option<bool>,
    num_register_tokens: Option<usize>,
}

/// What a file may leave out, which is as in transformers.
const USUAL: VisionConfig = VisionConfig {
    tower: TowerConfig {
        hidden: 768,
        layers: 12,
        heads: 12,
        wide: 3_072,
        activation: Activation::Gelu,
        epsilon: 1e-6,
    },
    side: 224,
    patch: 14,
    leading: 1,
};
const USUAL_RATIO: usize = 4;
/// Those of the kind with registers.
const USUAL_PATCH: usize = 16;
const USUAL_REGISTERS: usize = 4;

impl File {
    fn config(self) -> Result<DinoConfig, String> {
        let (usual, registers, between) = if self.model_type == "dinov2" {
            (USUAL, 0, Between::Points)
        } else {
            let registers = self.num_register_tokens.unwrap_or(USUAL_REGISTERS);
            if registers > 1_000 {
                return Err(format!("num_register_tokens is {registers}, expected at most 1000"));
            }
            (VisionConfig { patch: USUAL_PATCH, ..USUAL }, registers, Between::Areas)
        };
        if self.qkv_bias == Some(false) {
            return Err("qkv_bias is false, only true is supported".to_owned());
        }
        let mut vision = self.network.vision(&usual)?;
        vision.leading += registers;
        let ratio = known("mlp_ratio", self.mlp_ratio.unwrap_or(USUAL_RATIO), 100)?;
        vision.tower.wide = vision.tower.hidden * ratio;
        if self.use_swiglu_ffn == Some(true) {
            vision.tower.activation = Activation::SwiGlu;
            vision.tower.wide = (vision.tower.wide * 2 / 3).next_multiple_of(8);
        }
        let trained_across = vision.side / vision.patch;
        Ok(DinoConfig { vision, trained_across, between })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(file: Value) -> Result<DinoConfig, String> {
        serde_json::from_value::<File>(file).unwrap().config()
    }

    #[test]
    fn what_is_left_out_is_as_in_transformers() {
        let DinoConfig { vision, trained_across, between } =
            config(json!({"model_type": "dinov2"})).unwrap();
        assert_eq!((vision.tokens(), trained_across, between), (257, 16, Between::Points));
        assert_eq!((vision.tower.wide, vision.tower.activation), (3_072, Activation::Gelu));
        let DinoConfig { vision, trained_across, between } =
            config(json!({"model_type": "dinov2_with_registers"})).unwrap();
        assert_eq!((vision.tokens(), trained_across, between), (201, 14, Between::Areas));
    }

    #[test]
    fn the_giant_has_a_form_of_its_own() {
        let giant = json!({"model_type": "dinov2", "hidden_size": 1536, "num_attention_heads": 24,
            "num_hidden_layers": 40, "image_size": 518, "use_swiglu_ffn": true});
        let tower = config(giant).unwrap().vision.tower;
        assert_eq!((tower.wide, tower.activation), (4_096, Activation::SwiGlu));
    }

    #[test]
    fn images_of_other_sizes_have_other_tokens() {
        let mut config = config(json!({"model_type": "dinov2", "image_size": 518})).unwrap();
        assert_eq!((config.vision.tokens(), config.trained_across), (1_370, 37));
        config.see(224).unwrap();
        assert_eq!((config.vision.tokens(), config.trained_across), (257, 37));
        config.see(237).unwrap();
        assert_eq!(config.vision.tokens(), 257);
        config.see(1_413).unwrap();
        assert_eq!(config.vision.tokens(), 10_001);
        assert!(config.see(1_414).unwrap_err().contains("101 patches of 14, expected at most 100"));
        assert!(config.see(13).unwrap_err().contains("less than patch_size, 14"));
    }

    #[test]
    fn what_is_not_known_or_makes_no_sense_is_refused() {
        for (key, value, part) in [
            ("qkv_bias", json!(false), "qkv_bias"),
            ("mlp_ratio", json!(0), "mlp_ratio is 0"),
            ("image_size", json!(15), "patch_size is 16, expected 1 to 15"),
            ("hidden_act", json!("relu"), "relu"),
            ("num_register_tokens", json!(1_001), "num_register_tokens is 1001"),
        ] {
            let mut file = json!({"model_type": "dinov2_with_registers"});
            file[key] = value;
            let error = config(file).unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
