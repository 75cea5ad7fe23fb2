//! The options of `stoker submit` for models that generate text.

use stoker_proto::v1;

use crate::spec::{Generation, PromptForm};

/// How texts are answered.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(next_help_heading = "Generating text")]
pub(super) struct GenerationArgs {
    /// System message before each text, which is a user's message
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,

    /// Continue the texts as they are, without the model's form for conversations
    #[arg(long)]
    raw: bool,

    /// Most tokens to generate for each text, or for each image's caption [default: 256; of a
    /// caption 50]
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,

    /// 0: always the likeliest token; larger is more varied [default: 0]
    #[arg(long, value_name = "NUMBER")]
    temperature: Option<f32>,

    /// Choose from the likeliest tokens whose shares sum to this [default: 1]
    #[arg(long, value_name = "SHARE")]
    top_p: Option<f32>,

    /// Choose from this many of the likeliest tokens [default: all]
    #[arg(long, value_name = "N")]
    top_k: Option<u32>,

    /// Above 1: tokens that are in the text already become less likely [default: 1]
    #[arg(long, value_name = "NUMBER")]
    repeat_penalty: Option<f32>,

    /// The same seed, texts and options give the same answers [default: one of the job's own]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// End an answer before this text; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

impl GenerationArgs {
    /// Whether nothing was said.
    pub(super) fn is_empty(&self) -> bool {
        let Self { system, raw, max_tokens, temperature, top_p, top_k, .. } = self;
        let Self { repeat_penalty, seed, stop, .. } = self;
        let numbers = [temperature, top_p, repeat_penalty].into_iter().all(Option::is_none);
        let counts = max_tokens.is_none() && top_k.is_none() && seed.is_none();
        numbers && counts && system.is_none() && !raw && stop.is_empty()
    }

    /// Whether nothing was said but how long a text may be.
    pub(super) fn is_length_only(&self) -> bool {
        Self { max_tokens: None, ..self.clone() }.is_empty()
    }

    /// 0 where nothing was said.
    pub(super) fn max_tokens(&self) -> u32 {
        self.max_tokens.unwrap_or_default()
    }

    pub(super) fn to_generation(&self) -> Generation {
        let form = match (&self.system, self.raw) {
            (Some(system), _) => PromptForm::MessageAfter(system.clone()),
            (None, true) => PromptForm::Beginning,
            (None, false) => PromptForm::Message,
        };
        let options = v1::GenerationOptions {
            max_tokens: self.max_tokens(),
            temperature: self.temperature.unwrap_or_default(),
            top_p: self.top_p,
            top_k: self.top_k.unwrap_or_default(),
            repeat_penalty: self.repeat_penalty,
            seed: self.seed,
            stop: self.stop.clone(),
        };
        Generation { options, form }
    }
}
