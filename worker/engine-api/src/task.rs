//! The tasks an engine can do, and the values that go in and come out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    CaptionInput, FaceInput, Faces, Generation, GenerationInput, ImageInput, Recording, Transcript,
};

/// What a model does with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// Text in, one vector out.
    TextEmbedding,
    /// Text in, a score of each of the model's labels out.
    TextClassification,
    /// A text or a conversation in, what follows it out.
    TextGeneration,
    /// An image in, one vector out.
    ImageEmbedding,
    /// An image and labels in, a score of each of the labels out.
    ImageClassification,
    /// An image in, what is to be seen on it out.
    ImageCaptioning,
    /// An image in, where there are faces on it out.
    FaceDetection,
    /// An image in, where there are faces on it and a vector of each out.
    FaceEmbedding,
    /// A recording in, what is said in it out.
    SpeechToText,
    /// Text in, the same text out: the engine that does nothing, for tests and benchmarks.
    Echo,
}

impl TaskKind {
    /// Every task, in the order of declaration.
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

    /// The name used in configuration files and on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TextEmbedding => "text-embedding",
            Self::TextClassification => "text-classification",
            Self::TextGeneration => "text-generation",
            Self::ImageEmbedding => "image-embedding",
            Self::ImageClassification => "image-classification",
            Self::ImageCaptioning => "image-captioning",
            Self::FaceDetection => "face-detection",
            Self::FaceEmbedding => "face-embedding",
            Self::SpeechToText => "speech-to-text",
            Self::Echo => "echo",
        }
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A task name that no engine knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown task `{name}`: use text-embedding, text-classification, text-generation, image-embedding, \
     image-classification, image-captioning, face-detection, face-embedding, speech-to-text or echo"
)]
pub struct UnknownTask {
    pub name: String,
}

impl FromStr for TaskKind {
    type Err = UnknownTask;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|task| task.name() == name);
        known.ok_or_else(|| UnknownTask { name: name.to_owned() })
    }
}

/// One input of a job.
///
/// Deliberately exhaustive: a new kind of input must be handled wherever inputs are matched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ItemInput {
    Text(String),
    Generation(Box<GenerationInput>),
    Image(Box<ImageInput>),
    Caption(Box<CaptionInput>),
    Faces(Box<FaceInput>),
    Recording(Box<Recording>),
}

impl ItemInput {
    /// The kind of input, for messages: never the content.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Generation(_) => "a prompt",
            Self::Image(_) => "an image",
            Self::Caption(_) => "an image to be captioned",
            Self::Faces(_) => "an image with faces",
            Self::Recording(_) => "a recording",
        }
    }

    /// Whether an earlier engine has generated some of its output.
    pub fn is_begun(&self) -> bool {
        match self {
            Self::Text(_)
            | Self::Image(_)
            | Self::Caption(_)
            | Self::Faces(_)
            | Self::Recording(_) => false,
            Self::Generation(input) => !input.generated.is_empty(),
        }
    }

    /// The same with a text before it.
    #[must_use]
    pub fn after(self, prefix: &str) -> Self {
        match self {
            Self::Text(mut text) => {
                text.insert_str(0, prefix);
                Self::Text(text)
            }
            // Have their own forms.
            other @ (Self::Generation(_)
            | Self::Image(_)
            | Self::Caption(_)
            | Self::Faces(_)
            | Self::Recording(_)) => other,
        }
    }

    /// How much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Generation(input) => {
                input.prompt.bytes() + input.generated.len() * size_of::<u32>()
            }
            Self::Image(input) => input.bytes(),
            Self::Caption(input) => input.bytes(),
            Self::Faces(input) => input.file.len(),
            Self::Recording(recording) => recording.file.len(),
        }
    }
}

/// The result of one item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ItemOutput {
    /// A vector of `output_dimensions` finite numbers.
    Embedding(#[serde(with = "little_endian")] Vec<f32>),
    Scores(Scores),
    Text(String),
    Generation(Generation),
    Faces(Faces),
    Transcript(Transcript),
}

impl ItemOutput {
    /// The kind of output, for messages: never the content.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Embedding(_) => "an embedding",
            Self::Scores(_) => "scores",
            Self::Text(_) => "a text",
            Self::Generation(_) => "a generated text",
            Self::Faces(_) => "faces",
            Self::Transcript(_) => "a transcript",
        }
    }
}

/// What a classifier says of one text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// One number from 0 to 1 for each of the model's labels, in their order.
    #[serde(with = "little_endian")]
    pub scores: Vec<f32>,
    /// The text was longer than the model reads: the scores are those of its beginning.
    pub truncated: bool,
}

/// The labels of a classifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Each name once, in the order of the scores.
    pub names: Vec<String>,
    /// An item has exactly one of them, and its scores sum to 1.
    pub exclusive: bool,
}

/// Vectors cross as raw little-endian bytes: no per-number tags, one copy.
pub(crate) mod little_endian {
    use serde::de::Error as _;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(values: &[f32], to: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        serde_bytes::serialize(&bytes, to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f32>, D::Error> {
        let bytes: &[u8] = serde_bytes::deserialize(from)?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(D::Error::custom("an embedding's length is not a multiple of 4 bytes"));
        }
        Ok(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_names_parse_back() {
        for task in TaskKind::ALL {
            assert_eq!(task.name().parse(), Ok(task));
        }
    }

    #[test]
    fn unknown_task_is_named_with_the_choices() {
        let error = "text-embeding".parse::<TaskKind>().unwrap_err();
        let message = error.to_string();
        assert!(message.contains("text-embeding") && message.contains("or echo"));
        for task in TaskKind::ALL {
            assert!(message.contains(task.name()), "{task} is not offered");
        }
    }
}
