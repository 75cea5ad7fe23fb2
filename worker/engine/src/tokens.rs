//! From text to token ids.

use std::path::Path;

use serde::Deserialize;
use stoker_engine_api::{ItemError, Prepared};
use tokenizers::{PaddingParams, PaddingStrategy, Tokenizer, TruncationParams};

use crate::vocabulary::TokenName;
use crate::{LoadError, json};

const MISSING: &str = "the model's `source` in the fleet file must name a model with a fast tokenizer \
                       (tokenizer.json): save it again with a current version of transformers";

const SENTENCEPIECE: &str = "spiece.model is not read: fetch the model's tokenizer.json as well, or make it out of the \
                             other with transformers";

/// A text as the network reads it: at least one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    pub(crate) ids: Vec<u32>,
    /// The text has more, which the network does not read.
    pub(crate) truncated: bool,
}

impl Prepared for Tokens {
    fn cost(&self) -> u32 {
        u32::try_from(self.ids.len()).unwrap_or(u32::MAX)
    }
}

/// How texts are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// Whether texts are lowercased before the tokenizer sees them.
    pub(crate) lowercase: bool,
    /// Tokens that the model reads, special tokens included.
    pub(crate) max_tokens: usize,
    /// Tokens that the model knows.
    pub(crate) vocabulary: usize,
    pub(crate) length: Length,
}

/// How long texts become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// As long as they are.
    Own,
    /// All as long as the model reads: with the tokenizer's token for it behind them.
    Longest,
}

/// What a tokenizer's other file says of texts that become all of one length.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Habits {
    tokenizer_class: Option<String>,
    pad_token: Option<TokenName>,
    padding_side: Option<String>,
    do_lower_case: Option<bool>,
}

/// Classes of transformers that fill up behind a text where nothing else is said. Others, as Gemma's, do so before it.
const FILL_BEHIND: [&str; 4] =
    ["SiglipTokenizer", "SiglipTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"];

/// Classes that lowercase where nothing else is said, whatever `tokenizer.json` does.
const LOWERCASE: [&str; 3] = ["SiglipTokenizer", "SiglipTokenizerFast", "Siglip2Tokenizer"];

impl Habits {
    fn is_one_of(&self, classes: &[&str]) -> bool {
        self.tokenizer_class.as_deref().is_some_and(|class| classes.contains(&class))
    }

    /// Only what may stand behind a text is known to give the numbers that a model was trained for.
    fn side_problem(&self) -> Option<String> {
        match (&self.padding_side, &self.tokenizer_class) {
            (Some(side), _) if side == "right" => None,
            (Some(side), _) => Some(format!("padding_side is {side}, only right is supported")),
            (None, Some(class)) if !self.is_one_of(&FILL_BEHIND) => {
                Some(format!("it names no padding_side, which not every {class} has at the right"))
            }
            (None, _) => None,
        }
    }

    fn lowercase(&self) -> bool {
        self.do_lower_case.unwrap_or_else(|| self.is_one_of(&LOWERCASE))
    }
}

/// A tokenizer set up as the model's configuration says.
pub(crate) struct TextTokenizer {
    tokenizer: Tokenizer,
    lowercase: bool,
    vocabulary: u32,
}

impl TextTokenizer {
    pub(crate) fn load(directory: &Path, reading: Reading) -> Result<Self, LoadError> {
        let Reading { mut lowercase, max_tokens, vocabulary, length } = reading;
        let path = directory.join("tokenizer.json");
        let other = directory.join("spiece.model").exists();
        let bytes = json::read_bytes(&path, if other { SENTENCEPIECE } else { MISSING })?;
        let corrupt = |error: &dyn std::fmt::Display| LoadError::Corrupt {
            path: path.clone(),
            what: error.to_string(),
        };
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| corrupt(&error))?;
        // The file often asks for a fixed length, which would cost as much as the longest text.
        tokenizer.with_padding(None);
        let added = tokenizer.encode_fast("", true).map_err(|error| corrupt(&error))?.len();
        if added == 0 || max_tokens <= added {
            let what =
                format!("it adds {added} special tokens, but the model reads {max_tokens} tokens");
            return Err(LoadError::Unsupported { path, what });
        }
        let truncation = TruncationParams { max_length: max_tokens, ..Default::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| corrupt(&error))?;
        if length == Length::Longest {
            let path = directory.join("tokenizer_config.json");
            let habits: Habits = json::read_optional(&path)?.unwrap_or_default();
            lowercase |= habits.lowercase();
            let filled = filled(habits, &tokenizer, max_tokens)
                .map_err(|what| LoadError::Unsupported { path, what })?;
            tokenizer.with_padding(Some(filled));
        }
        let vocabulary = u32::try_from(vocabulary).unwrap_or(u32::MAX);
        Ok(Self { tokenizer, lowercase, vocabulary })
    }

    /// Tokens of a text, cut to what the model reads.
    pub(crate) fn encode(&self, text: &str) -> Result<Tokens, ItemError> {
        let encoding = if self.lowercase {
            self.tokenizer.encode_fast(text.to_lowercase(), true)
        } else {
            self.tokenizer.encode_fast(text, true)
        };
        let encoding = encoding
            .map_err(|error| ItemError::Invalid { message: format!("tokenizing: {error}") })?;
        let ids = encoding.get_ids();
        if let Some(id) = ids.iter().find(|id| **id >= self.vocabulary) {
            let message = format!("token {id} is outside the model's {} tokens", self.vocabulary);
            return Err(ItemError::Internal { message });
        }
        Ok(Tokens { ids: ids.to_vec(), truncated: !encoding.get_overflowing().is_empty() })
    }
}

/// With what texts are filled up to one length.
fn filled(habits: Habits, tokenizer: &Tokenizer, length: usize) -> Result<PaddingParams, String> {
    if let Some(problem) = habits.side_problem() {
        return Err(problem);
    }
    let pad_token = habits.pad_token.map(TokenName::text);
    let pad_token = pad_token.ok_or("it names no pad_token, which texts are filled up with")?;
    let pad_id = tokenizer
        .token_to_id(&pad_token)
        .ok_or_else(|| format!("pad_token is {pad_token}, which tokenizer.json does not have"))?;
    let strategy = PaddingStrategy::Fixed(length);
    Ok(PaddingParams { strategy, pad_id, pad_token, ..Default::default() })
}
