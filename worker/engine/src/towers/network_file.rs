//! A network as a `config.json` of transformers describes it, in the form that most models have.

use serde::Deserialize;

use super::config::{Activation, TowerConfig, VisionConfig, known};

/// What is left out is as usual for the kind of model.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct NetworkFile {
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    intermediate_size: Option<usize>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f64>,
    image_size: Option<usize>,
    patch_size: Option<usize>,
    num_channels: Option<usize>,
    pub(crate) vocab_size: Option<usize>,
    pub(crate) max_position_embeddings: Option<usize>,
}

impl NetworkFile {
    /// # Errors
    /// When a setting makes no sense, or is none that this engine does.
    pub(crate) fn vision(&self, usual: &VisionConfig) -> Result<VisionConfig, String> {
        let side = known("image_size", self.image_size.unwrap_or(usual.side), 4_096)?;
        let patch = known("patch_size", self.patch_size.unwrap_or(usual.patch), side)?;
        if let Some(channels) = self.num_channels.filter(|channels| *channels != 3) {
            return Err(format!("num_channels is {channels}, only 3 is supported"));
        }
        Ok(VisionConfig { tower: self.tower(&usual.tower)?, side, patch, leading: usual.leading })
    }

    /// # Errors
    /// As [`vision`](Self::vision).
    pub(crate) fn tower(&self, usual: &TowerConfig) -> Result<TowerConfig, String> {
        let hidden = known("hidden_size", self.hidden_size.unwrap_or(usual.hidden), 65_536)?;
        let heads = self.num_attention_heads.unwrap_or(usual.heads);
        let heads = known("num_attention_heads", heads, hidden)?;
        if !hidden.is_multiple_of(heads) {
            return Err("hidden_size is not a multiple of num_attention_heads".to_owned());
        }
        let epsilon = match self.layer_norm_eps {
            None => usual.epsilon,
            #[expect(clippy::cast_possible_truncation, reason = "it is a small power of ten")]
            Some(epsilon) if (0.0..1.0).contains(&epsilon) => epsilon as f32,
            Some(epsilon) => return Err(format!("layer_norm_eps is {epsilon}")),
        };
        let activation = match self.hidden_act.as_deref() {
            None => usual.activation,
            Some("gelu") => Activation::Gelu,
            Some("quick_gelu") => Activation::QuickGelu,
            Some("gelu_pytorch_tanh") => Activation::TanhGelu,
            Some(other) => {
                return Err(format!(
                    "hidden_act is `{other}`, only gelu, gelu_pytorch_tanh and quick_gelu are supported"
                ));
            }
        };
        let layers = self.num_hidden_layers.unwrap_or(usual.layers);
        let wide = self.intermediate_size.unwrap_or(usual.wide);
        Ok(TowerConfig {
            hidden,
            layers: known("num_hidden_layers", layers, 1_000)?,
            heads,
            wide: known("intermediate_size", wide, 1_000_000)?,
            activation,
            epsilon,
        })
    }
}
