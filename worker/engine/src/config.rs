//! What a model says about itself, from all its files, checked.
//!
//! A setting that would change the results and that this engine does not know is refused: an
//! unknown model is better than a wrong answer.

mod labels;
mod sentence;

use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;
use stoker_engine_api::{Labels, TaskKind};

use crate::encoder::{EncoderConfig, NetworkFile};
use crate::{LoadError, json};

const NOT_A_SENTENCE_MODEL: &str = "the model's `source` in the fleet file must name a sentence-transformers model: \
                                    config.json, modules.json, tokenizer.json and model.safetensors in one folder";
const NOT_A_CLASSIFIER: &str = "the model's `source` in the fleet file must name a model for sequence classification: \
                                config.json, tokenizer.json and model.safetensors in one folder";

/// What an encoder is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncoderTask {
    Embedding,
    Classification,
}

impl EncoderTask {
    /// `None` for a task that is not an encoder's.
    pub const fn of(task: TaskKind) -> Option<Self> {
        match task {
            TaskKind::TextEmbedding => Some(Self::Embedding),
            TaskKind::TextClassification => Some(Self::Classification),
            TaskKind::TextGeneration
            | TaskKind::ImageEmbedding
            | TaskKind::ImageClassification
            | TaskKind::ImageCaptioning
            | TaskKind::FaceDetection
            | TaskKind::FaceEmbedding
            | TaskKind::SpeechToText
            | TaskKind::Echo => None,
        }
    }

    pub const fn kind(self) -> TaskKind {
        match self {
            Self::Embedding => TaskKind::TextEmbedding,
            Self::Classification => TaskKind::TextClassification,
        }
    }

    /// What a model for it is, for somebody whose files are not one.
    const fn remedy(self) -> &'static str {
        match self {
            Self::Embedding => NOT_A_SENTENCE_MODEL,
            Self::Classification => NOT_A_CLASSIFIER,
        }
    }
}

/// A model's configuration, from all its files.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    pub encoder: EncoderConfig,
    pub head: HeadConfig,
    /// Whether texts are lowercased before the tokenizer sees them.
    pub lowercase: bool,
    /// Tokens that the model reads, special tokens included.
    pub max_tokens: usize,
}

/// What is made of the network's output.
#[derive(Debug, Clone, PartialEq)]
pub enum HeadConfig {
    Vector {
        pooling: Pooling,
        /// Whether vectors are scaled to length 1.
        normalize: bool,
    },
    Scores(Labels),
}

/// How the vectors of the tokens become the vector of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all tokens.
    Mean,
    /// The first token, `[CLS]`.
    Cls,
}

/// Whether whoever sends the texts puts a prompt before those that ask for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultPrompt {
    None,
    Given,
}

impl FromStr for DefaultPrompt {
    type Err = UnknownDefaultPrompt;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "none" => Ok(Self::None),
            "given" => Ok(Self::Given),
            _ => Err(UnknownDefaultPrompt),
        }
    }
}

/// It is neither of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use none or given")]
pub struct UnknownDefaultPrompt;

/// How texts are read, as far as a task's own files say.
struct TextRules {
    lowercase: bool,
    max_tokens: Option<usize>,
}

impl ModelConfig {
    /// Reads and checks all configuration files of a model.
    ///
    /// # Errors
    /// When a file is missing or not valid, or asks for something this engine does not do.
    pub fn read(
        directory: &Path,
        task: EncoderTask,
        default_prompt: DefaultPrompt,
    ) -> Result<Self, LoadError> {
        let path = directory.join("config.json");
        let file: NetworkFile = json::read(&path, task.remedy())?;
        let encoder = EncoderConfig::new(&file)
            .map_err(|what| LoadError::Unsupported { path: path.clone(), what })?;
        let (head, rules) = match task {
            EncoderTask::Embedding => sentence::read(directory, encoder.hidden, default_prompt)?,
            EncoderTask::Classification => {
                let labels = labels::read(&path)?;
                let rules = TextRules { lowercase: false, max_tokens: None };
                (HeadConfig::Scores(labels), rules)
            }
        };
        let tokenizer: TokenizerFile =
            json::read_optional(&directory.join("tokenizer_config.json"))?.unwrap_or_default();
        let max_tokens = rules.max_tokens.or_else(|| tokenizer.max_tokens());
        let positions = encoder.max_tokens();
        Ok(Self {
            max_tokens: max_tokens.map_or(positions, |max| max.min(positions)),
            encoder,
            head,
            lowercase: rules.lowercase,
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenizerFile {
    /// A float in some files: "no limit" is written as 1e30.
    model_max_length: Option<f64>,
}

impl TokenizerFile {
    fn max_tokens(&self) -> Option<usize> {
        let limit = self.model_max_length.filter(|limit| (1.0..1e9).contains(limit))?;
        format!("{limit:.0}").parse().ok()
    }
}
