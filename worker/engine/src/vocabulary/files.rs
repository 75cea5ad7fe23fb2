//! A vocabulary from the files that transformers writes.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use tokenizers::Tokenizer;

use super::Vocabulary;
use crate::chat::ChatTemplate;
use crate::decoder::TokenIds;
use crate::{LoadError, json};

const MISSING: &str = "the model's `source` in the fleet file must name a model with a fast tokenizer \
                       (tokenizer.json): save it again with a current version of transformers";

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenizerConfig {
    chat_template: Option<Templates>,
    bos_token: Option<TokenName>,
    eos_token: Option<TokenName>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Several(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// A token's text, in either of two forms.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum TokenName {
    Text(String),
    Described { content: String },
}

impl TokenName {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Described { content: text } => text,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct GenerationConfig {
    eos_token_id: Option<TokenIds>,
}

/// The vocabulary in a folder, of a network that knows `size` tokens. `ends` are those of its own
/// configuration.
///
/// # Errors
/// When a file is missing or not valid.
pub(crate) fn from_files(
    directory: &Path,
    size: usize,
    ends: Option<&TokenIds>,
) -> Result<Vocabulary, LoadError> {
    let tokenizer = tokenizer(&directory.join("tokenizer.json"))?;
    let path = directory.join("tokenizer_config.json");
    let config: TokenizerConfig = json::read_optional(&path)?.unwrap_or_default();
    let end = config.eos_token.map(TokenName::text);
    let generation: GenerationConfig =
        json::read_optional(&directory.join("generation_config.json"))?.unwrap_or_default();
    let mut all: BTreeSet<u32> = BTreeSet::new();
    for ids in [generation.eos_token_id.as_ref(), ends].into_iter().flatten() {
        all.extend(ids.as_slice());
    }
    all.extend(end.as_deref().and_then(|end| tokenizer.token_to_id(end)));
    let source = match json::read_text(&directory.join("chat_template.jinja"))? {
        Some(source) => Some(source),
        None => config.chat_template.and_then(default_template),
    };
    let begin = config.bos_token.map(TokenName::text).unwrap_or_default();
    let template = source.map(|source| ChatTemplate::new(source, begin, end.unwrap_or_default()));
    let template = template.transpose().map_err(|what| LoadError::Unsupported { path, what })?;
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    Ok(Vocabulary { tokenizer, template, begin: None, ends: all, size })
}

/// A tokenizer that neither pads nor cuts.
pub(crate) fn tokenizer(path: &Path) -> Result<Tokenizer, LoadError> {
    let bytes = json::read_bytes(path, MISSING)?;
    let corrupt = |what: String| LoadError::Corrupt { path: path.to_owned(), what };
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| corrupt(error.to_string()))?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| corrupt(error.to_string()))?;
    Ok(tokenizer)
}

fn default_template(templates: Templates) -> Option<String> {
    match templates {
        Templates::One(template) => Some(template),
        Templates::Several(templates) => {
            templates.into_iter().find(|one| one.name == "default").map(|one| one.template)
        }
    }
}
