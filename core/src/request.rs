//! What a client asks for, checked at the edge.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{ClassName, ModelName};

/// What a model does. The numbers are stored; never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Task {
    /// A vector for each text.
    TextEmbedding = 1,
    /// Returns its input: for health checks and benchmarks.
    Echo = 2,
    /// A score of each of the model's labels for each text.
    TextClassification = 3,
    /// What follows a text or a conversation.
    TextGeneration = 4,
    /// A vector for each image.
    ImageEmbedding = 5,
    /// A score of each of the job's labels for each image.
    ImageClassification = 6,
    /// What is to be seen on each image.
    ImageCaptioning = 7,
    /// Where there are faces on each image.
    FaceDetection = 8,
    /// The same, with a vector for each face.
    FaceEmbedding = 9,
    /// What is said in each recording.
    SpeechToText = 10,
}

impl Task {
    pub const ALL: [Self; 10] = [
        Self::TextEmbedding,
        Self::TextClassification,
        Self::TextGeneration,
        Self::ImageEmbedding,
        Self::ImageClassification,
        Self::ImageCaptioning,
        Self::FaceDetection,
        Self::FaceEmbedding,
        Self::SpeechToText,
        Self::Echo,
    ];

    pub const fn number(self) -> u8 {
        self as u8
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|task| task.number() == number)
    }

    /// The name used in `fleet.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TextEmbedding => "text-embedding",
            Self::Echo => "echo",
            Self::TextClassification => "text-classification",
            Self::TextGeneration => "text-generation",
            Self::ImageEmbedding => "image-embedding",
            Self::ImageClassification => "image-classification",
            Self::ImageCaptioning => "image-captioning",
            Self::FaceDetection => "face-detection",
            Self::FaceEmbedding => "face-embedding",
            Self::SpeechToText => "speech-to-text",
        }
    }

    /// Whether its models are part of the engine: they have no files, and nothing is loaded.
    pub const fn is_builtin(self) -> bool {
        match self {
            Self::Echo => true,
            Self::TextEmbedding
            | Self::TextClassification
            | Self::TextGeneration
            | Self::ImageEmbedding
            | Self::ImageClassification
            | Self::ImageCaptioning
            | Self::FaceDetection
            | Self::FaceEmbedding
            | Self::SpeechToText => false,
        }
    }

    /// Whether its items are images.
    pub const fn takes_images(self) -> bool {
        match self {
            Self::ImageEmbedding
            | Self::ImageClassification
            | Self::ImageCaptioning
            | Self::FaceDetection
            | Self::FaceEmbedding => true,
            Self::TextEmbedding
            | Self::TextClassification
            | Self::TextGeneration
            | Self::SpeechToText
            | Self::Echo => false,
        }
    }
}

/// Pairs for the client's own use.
pub type Labels = BTreeMap<String, String>;

/// A job as a client asked for it, before the fleet's registry is consulted.
///
/// `I` is the encoded input, opaque to the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRequest<I> {
    pub model: ModelName,
    /// `None`: the fleet's default class.
    pub class: Option<ClassName>,
    pub task: Task,
    /// Number of items, at least 1.
    pub items: u32,
    pub input: I,
    pub idempotency: Option<Idempotency>,
    pub deadline_after: Option<Duration>,
    pub labels: Labels,
}

/// A client's key, and what tells whether a request is the same as the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// At most 255 bytes, not empty.
    pub key: String,
    /// Digest of everything in the request but the key.
    pub request_digest: [u8; 32],
}
