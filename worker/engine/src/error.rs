//! Why a model cannot be loaded, and what a person can do about it.

use std::path::PathBuf;

use stoker_engine_api::StartError;

use crate::Precision;
use crate::device::advice;

/// A model cannot be loaded. Every variant names the file it is about.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("reading {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is missing", path.display())]
    Missing { path: PathBuf, remedy: &'static str },
    #[error("{} is not valid: {source}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{}: {what}", path.display())]
    Unsupported { path: PathBuf, what: String },
    #[error("{} is not a safetensors file but {found}", path.display())]
    Format { path: PathBuf, found: &'static str, remedy: &'static str },
    #[error("{} is truncated or corrupt: {what}", path.display())]
    Corrupt { path: PathBuf, what: String },
    #[error("{} has SHA-256 {found}, but the registry says {expected}", path.display())]
    Digest { path: PathBuf, expected: String, found: String },
    #[error("{} was written to while it was read", path.display())]
    Changed { path: PathBuf },
    #[error("{} does not fit config.json: {what}", path.display())]
    Mismatch { path: PathBuf, what: String },
    #[error("{}: tensor {name} holds numbers that are not finite", path.display())]
    NotFinite { path: PathBuf, name: String },
    #[error("tensor {name} holds numbers beyond the range of {precision}")]
    Range { name: String, precision: Precision },
    #[error("device {device}: {what}")]
    Device { device: String, what: String },
    #[error("the model gave a wrong answer when it was tried: {what}")]
    Canary { what: String },
}

impl LoadError {
    /// What to do about it, as an instruction.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Read { .. } => {
                "check that the file exists and that the engine's user may read it"
            }
            Self::Missing { remedy, .. } | Self::Format { remedy, .. } => remedy,
            Self::Json { .. } | Self::Corrupt { .. } | Self::Mismatch { .. } => {
                "delete the model's directory and fetch the model again"
            }
            Self::Unsupported { .. } => {
                "use another model: of the BERT family (bert, roberta, xlm-roberta or distilbert), a \
                 sentence-transformers model with mean or CLS pooling for embedding, one for sequence \
                 classification for labels; of the Llama family (llama, mistral, qwen2 or qwen3) for \
                 generation; CLIP (clip), SigLIP (siglip) or DINOv2 (dinov2) for images, BLIP (blip) for their captions, MTCNN \
                 and FaceNet (facenet) for faces; Whisper (whisper) for speech"
            }
            Self::Digest { .. } => {
                "fetch the model again, or correct the digest in the fleet file if the weights were \
                 changed on purpose"
            }
            Self::Changed { .. } => {
                "let nothing write to the model's folder while engines start from it, and start again"
            }
            Self::NotFinite { .. } => "the weights are broken at their source: use another model",
            Self::Range { .. } => "give the model the precision bf16 or f32 in the fleet file",
            Self::Device { what, .. } => advice(what),
            Self::Canary { .. } => {
                "try another machine: if it happens there too, the weights or the engine are broken"
            }
        }
    }
}

impl From<LoadError> for StartError {
    fn from(error: LoadError) -> Self {
        Self::new(error.to_string(), error.remedy())
    }
}

/// The first 200 characters of what a library says about a file: it may repeat what it found there, however long.
pub(crate) fn beginning(message: &str) -> &str {
    let end = message.char_indices().nth(200).map_or(message.len(), |(at, _)| at);
    &message[..end]
}
