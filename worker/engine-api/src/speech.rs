//! Writing down what is said: what goes in and what comes out.

use serde::{Deserialize, Serialize};

/// A recording, and how it is to be written down. The bounds are those of `stoker-core`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// The content of a file: WAV, FLAC, MP3, or Ogg with Vorbis.
    #[serde(with = "serde_bytes")]
    pub file: Vec<u8>,
    /// What is spoken, as the model names it, such as `en`; `None`: to be found out.
    pub language: Option<String>,
    pub written_in: WrittenIn,
}

/// In what the words are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WrittenIn {
    /// What is spoken.
    Spoken,
    English,
}

/// What is said in a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// As the model names it. `None` if nothing was said and no language given.
    pub language: Option<String>,
    /// In the order in which they begin.
    pub segments: Vec<Segment>,
    /// How long the recording is, in milliseconds.
    pub duration_ms: u32,
}

/// A stretch in which something is said, in milliseconds from the recording's beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub start_ms: u32,
    /// Not before the start, and not behind the recording's end.
    pub end_ms: u32,
    /// Words as the model writes them, often with a space before the first.
    pub text: String,
}

impl Transcript {
    /// The texts of all segments, one after the other.
    pub fn text(&self) -> String {
        let text: String = self.segments.iter().map(|segment| segment.text.as_str()).collect();
        text.trim().to_owned()
    }
}
