//! From text to token ids.

use std::path::Path;

use stoker_engine_api::{ItemError, Prepared};
use tokenizers::{Tokenizer, TruncationParams};

use crate::{LoadError, json};

const MISSING: &str = "the model's `source` in the fleet file must name a model with a fast tokenizer \
                       (tokenizer.json): save it again with a current version of transformers";

/// A text as the network reads it: at least two tokens, no padding.
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
}

/// A tokenizer set up as the model's configuration says.
pub(crate) struct TextTokenizer {
    tokenizer: Tokenizer,
    lowercase: bool,
    vocabulary: u32,
}

impl TextTokenizer {
    pub(crate) fn load(directory: &Path, reading: Reading) -> Result<Self, LoadError> {
        let Reading { lowercase, max_tokens, vocabulary } = reading;
        let path = directory.join("tokenizer.json");
        let bytes = json::read_bytes(&path, MISSING)?;
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
