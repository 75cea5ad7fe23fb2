//! Looking at images: what goes in.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An image, and what it is to be compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInput {
    /// The whole file, a PNG, JPEG, WebP or GIF; not decoded.
    #[serde(with = "serde_bytes")]
    pub file: Vec<u8>,
    /// None where a vector is wanted.
    #[serde(with = "shared")]
    pub question: Option<Arc<Question>>,
}

impl ImageInput {
    /// How much memory it takes, in bytes; as much as if no other image had its question.
    pub fn bytes(&self) -> usize {
        self.file.len() + self.question.as_ref().map_or(0, |question| question.bytes())
    }
}

/// An image, and how what is to be seen on it is to be said. The bounds are those of `stoker-core`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptionInput {
    /// The whole file, a PNG, JPEG, WebP or GIF; not decoded.
    #[serde(with = "serde_bytes")]
    pub file: Vec<u8>,
    /// What the caption begins with. Empty: the model begins by itself.
    pub prompt: String,
    /// Tokens that may follow.
    pub max_tokens: u32,
}

impl CaptionInput {
    /// How much memory it takes, in bytes.
    pub const fn bytes(&self) -> usize {
        self.file.len() + self.prompt.len()
    }
}

/// Which of some labels fits an image. The bounds are those of `stoker-core`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Question {
    /// Each once, in the order of the scores.
    pub labels: Vec<String>,
    /// The sentence that a label is put into, with `{}` in its place.
    pub template: String,
}

impl Question {
    /// How much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.labels.iter().map(String::len).sum::<usize>() + self.template.len()
    }
}

/// The images of a job share their question in memory; on the way to the engine each has its own.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::Question;

    #[expect(clippy::ref_option, reason = "it is the form that serde calls")]
    pub(super) fn serialize<S: Serializer>(
        question: &Option<Arc<Question>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        question.as_deref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Arc<Question>>, D::Error> {
        Ok(Option::<Question>::deserialize(from)?.map(Arc::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{PREFIX_BYTES, decode, encode};

    #[test]
    fn an_image_crosses_as_it_is() {
        let labels = vec!["cat".to_owned(), "dog".to_owned()];
        let question = Arc::new(Question { labels, template: "a {}".to_owned() });
        let input = ImageInput { file: vec![0, 255, 7], question: Some(question) };
        assert_eq!(input.bytes(), 3 + 6 + 4);
        let frame = encode(&input).unwrap();
        assert_eq!(decode::<ImageInput>(&frame[PREFIX_BYTES..]).unwrap(), input);
    }
}
