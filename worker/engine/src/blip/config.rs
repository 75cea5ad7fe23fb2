//! What a BLIP model says about itself, checked.
//!
//! A setting that would change the numbers and that this engine does not know is refused: an unknown model is
//! better than a wrong answer.

use std::path::Path;

use serde::Deserialize;

use crate::towers::{Activation, NetworkFile, TowerConfig, VisionConfig, known};
use crate::{LoadError, json};

const NOT_A_MODEL: &str = "the model's `source` in the fleet file must name a BLIP model: config.json, \
                           preprocessor_config.json, tokenizer.json and model.safetensors in one folder";

/// Both networks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BlipConfig {
    pub(crate) vision: VisionConfig,
    pub(crate) words: WordsConfig,
}

/// The decoder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WordsConfig {
    /// Its layers, and the numbers per token in them.
    pub(crate) layers: TowerConfig,
    pub(crate) vocabulary: usize,
    /// Tokens of the longest caption.
    pub(crate) positions: usize,
    /// The token that every caption begins with, and the one that ends it.
    pub(crate) begin: u32,
    pub(crate) end: u32,
    pub(crate) output: OutputRows,
}

/// Where the decoder's last product has its rows from, one for each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputRows {
    /// They are those of the vocabulary.
    Vocabulary,
    Own,
}

impl BlipConfig {
    /// # Errors
    /// When the file is missing or not valid, or describes something this engine does not do.
    pub(crate) fn read(directory: &Path) -> Result<Self, LoadError> {
        let path = directory.join("config.json");
        let file: File = json::read(&path, NOT_A_MODEL)?;
        file.config().map_err(|what| LoadError::Unsupported { path, what })
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    model_type: String,
    #[serde(default)]
    architectures: Vec<String>,
    tie_word_embeddings: Option<bool>,
    #[serde(default)]
    text_config: WordsFile,
    #[serde(default)]
    vision_config: NetworkFile,
}

/// The decoder.
#[derive(Deserialize, Default)]
#[serde(default)]
struct WordsFile {
    #[serde(flatten)]
    network: NetworkFile,
    bos_token_id: Option<u32>,
    sep_token_id: Option<u32>,
}

/// What a file may leave out, which is as in transformers.
const USUAL_WORDS: TowerConfig = TowerConfig {
    hidden: 768,
    layers: 12,
    heads: 8,
    wide: 3_072,
    activation: Activation::Gelu,
    epsilon: 1e-12,
};
const USUAL_VISION: VisionConfig = VisionConfig {
    tower: TowerConfig { heads: 12, epsilon: 1e-5, ..USUAL_WORDS },
    side: 384,
    patch: 16,
    leading: 1,
};

impl File {
    fn config(self) -> Result<BlipConfig, String> {
        if self.model_type != "blip" {
            return Err(format!("model_type is `{}`, only blip is supported", self.model_type));
        }
        let captions = "BlipForConditionalGeneration";
        if let Some(other) = self.architectures.iter().find(|name| *name != captions) {
            return Err(format!("its architecture is {other}, only {captions} is supported"));
        }
        let output = match self.tie_word_embeddings {
            Some(true) | None => OutputRows::Vocabulary,
            Some(false) => OutputRows::Own,
        };
        Ok(BlipConfig {
            vision: self.vision_config.vision(&USUAL_VISION)?,
            words: self.text_config.config(output)?,
        })
    }
}

impl WordsFile {
    fn config(&self, output: OutputRows) -> Result<WordsConfig, String> {
        let network = &self.network;
        let layers = network.tower(&USUAL_WORDS)?;
        if layers.activation != Activation::Gelu {
            return Err("hidden_act of text_config is not gelu".to_owned());
        }
        let vocabulary = known("vocab_size", network.vocab_size.unwrap_or(30_524), 10_000_000)?;
        let positions = network.max_position_embeddings.unwrap_or(512);
        let token = |name: &str, token: u32| {
            let inside = usize::try_from(token).is_ok_and(|token| token < vocabulary);
            if inside { Ok(token) } else { Err(format!("{name} is {token} of {vocabulary}")) }
        };
        Ok(WordsConfig {
            layers,
            vocabulary,
            // One for the first token, and one for a word.
            positions: match known("max_position_embeddings", positions, 65_536)? {
                1 => return Err("max_position_embeddings is 1, expected at least 2".to_owned()),
                positions => positions,
            },
            begin: token("bos_token_id", self.bos_token_id.unwrap_or(30_522))?,
            end: token("sep_token_id", self.sep_token_id.unwrap_or(102))?,
            output,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(file: Value) -> Result<BlipConfig, String> {
        serde_json::from_value::<File>(file).unwrap().config()
    }

    #[test]
    fn what_is_left_out_is_as_in_transformers() {
        let config = config(json!({"model_type": "blip"})).unwrap();
        let BlipConfig { vision, words } = config;
        assert_eq!((vision.tokens(), vision.tower.heads, vision.tower.hidden), (577, 12, 768));
        assert_eq!((words.vocabulary, words.positions, words.layers.heads), (30_524, 512, 8));
        assert_eq!((words.begin, words.end), (30_522, 102));
        assert_eq!(words.output, OutputRows::Vocabulary);
        assert!((words.layers.epsilon - 1e-12).abs() < f32::EPSILON * 1e-12);
    }

    #[test]
    fn what_is_not_known_or_makes_no_sense_is_refused() {
        let text = |text: Value| json!({"model_type": "blip", "text_config": text});
        let vision = |vision: Value| json!({"model_type": "blip", "vision_config": vision});
        let answers = json!({"model_type": "blip", "architectures": ["BlipForQuestionAnswering"]});
        for (file, part) in [
            (json!({}), "model_type is ``"),
            (json!({"model_type": "blip-2"}), "model_type is `blip-2`"),
            (answers, "BlipForQuestionAnswering"),
            (vision(json!({"patch_size": 385})), "patch_size is 385"),
            (vision(json!({"num_channels": 1})), "num_channels"),
            (vision(json!({"hidden_act": "silu"})), "silu"),
            (text(json!({"hidden_act": "quick_gelu"})), "text_config is not gelu"),
            (text(json!({"num_attention_heads": 7})), "multiple"),
            (text(json!({"vocab_size": 30_522})), "bos_token_id is 30522 of 30522"),
            (text(json!({"sep_token_id": 30_524})), "sep_token_id"),
            (text(json!({"max_position_embeddings": 1})), "at least 2"),
            (text(json!({"layer_norm_eps": -1.0})), "layer_norm_eps"),
        ] {
            let error = config(file).unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
