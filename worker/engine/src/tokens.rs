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

/// What a tokenizer's other file says of filling up.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Filling {
    pad_token: Option<TokenName>,
    padding_side: Option<String>,
}

/// A tokenizer set up as the model's configuration says.
pub(crate) struct TextTokenizer {
    tokenizer: Tokenizer,
    lowercase: bool,
    vocabulary: u32,
}

impl TextTokenizer {
    pub(crate) fn load(directory: &Path, reading: Reading) -> Result<Self, LoadError> {
        let Reading { lowercase, max_tokens, vocabulary, length } = reading;
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
            let filled = filled(directory, &tokenizer, max_tokens)?;
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
fn filled(
    directory: &Path,
    tokenizer: &Tokenizer,
    length: usize,
) -> Result<PaddingParams, LoadError> {
    let path = directory.join("tokenizer_config.json");
    let Filling { pad_token, padding_side } = json::read_optional(&path)?.unwrap_or_default();
    let unsupported = |what| LoadError::Unsupported { path, what };
    if let Some(side) = padding_side.filter(|side| side != "right") {
        return Err(unsupported(format!("padding_side is {side}, only right is supported")));
    }
    let Some(pad_token) = pad_token.map(TokenName::text) else {
        return Err(unsupported(
            "it names no pad_token, which texts are filled up with".to_owned(),
        ));
    };
    let Some(pad_id) = tokenizer.token_to_id(&pad_token) else {
        let what = format!("pad_token is {pad_token}, which tokenizer.json does not have");
        return Err(unsupported(what));
    };
    let strategy = PaddingStrategy::Fixed(length);
    Ok(PaddingParams { strategy, pad_id, pad_token, ..Default::default() })
}
