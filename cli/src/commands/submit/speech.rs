//! The options of `stoker submit` for models that write down what is said.

use std::path::PathBuf;

use stoker_proto::v1;

/// What is to be written down, and how.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Transcribing speech")]
pub(super) struct SpeechArgs {
    /// Recording to transcribe (WAV, FLAC, MP3 or Ogg Vorbis; `-`: standard input); may be repeated
    #[arg(long, value_name = "FILE", conflicts_with_all = ["texts", "file", "jsonl"])]
    pub(super) audio: Vec<PathBuf>,

    /// What is spoken, such as en [default: the model finds out]
    #[arg(long, value_name = "LANGUAGE")]
    language: Option<String>,

    /// Write it down in English
    #[arg(long)]
    translate: bool,
}

impl SpeechArgs {
    /// Whether nothing was said.
    pub(super) const fn is_empty(&self) -> bool {
        self.audio.is_empty() && self.language.is_none() && !self.translate
    }

    pub(super) fn options(&self) -> v1::TranscriptionOptions {
        let language = self.language.clone().unwrap_or_default();
        v1::TranscriptionOptions { language, translate: self.translate }
    }
}
