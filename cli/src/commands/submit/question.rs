//! Options of comparing images with labels.

use crate::spec::Question;

/// What images are compared with.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(next_help_heading = "Comparing images with labels")]
pub(super) struct QuestionArgs {
    /// Label to look for; may be repeated [default: the model's own labels]
    #[arg(long, value_name = "TEXT")]
    candidate: Vec<String>,

    /// Sentence to compare each image with, with {} for the label [default: the model's]
    #[arg(long, value_name = "TEXT")]
    template: Option<String>,
}

impl QuestionArgs {
    /// Whether none was given.
    pub(super) const fn is_empty(&self) -> bool {
        self.candidate.is_empty() && self.template.is_none()
    }

    pub(super) fn to_question(&self) -> Question {
        let (labels, template) = (self.candidate.clone(), self.template.clone());
        Question { labels, template: template.unwrap_or_default() }
    }
}
