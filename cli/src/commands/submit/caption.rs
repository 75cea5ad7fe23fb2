//! Options of captioning images.

use crate::spec::Caption;

/// How captions are made.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Captioning images")]
pub(super) struct CaptionArgs {
    /// What each caption begins with, such as "a picture of" [default: the model begins by itself]
    #[arg(long, value_name = "TEXT")]
    begin_with: Option<String>,
}

impl CaptionArgs {
    /// Whether nothing was said.
    pub(super) const fn is_empty(&self) -> bool {
        self.begin_with.is_none()
    }

    pub(super) fn to_caption(&self, max_tokens: u32) -> Caption {
        Caption { prompt: self.begin_with.clone().unwrap_or_default(), max_tokens }
    }
}
