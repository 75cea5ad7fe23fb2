//! The vocabulary of a model that captions images.

use std::path::Path;

use stoker_engine_api::ItemError;
use tokenizers::Tokenizer;

use crate::blip::WordsConfig;
use crate::{LoadError, vocabulary};

/// A model's words.
pub(super) struct Words {
    tokenizer: Tokenizer,
    begin: u32,
    end: u32,
    positions: usize,
    vocabulary: u32,
}

impl Words {
    /// # Errors
    /// When the file is missing or not valid.
    pub(super) fn read(directory: &Path, config: &WordsConfig) -> Result<Self, LoadError> {
        let WordsConfig { vocabulary, positions, begin, end, .. } = *config;
        let tokenizer = vocabulary::tokenizer(&directory.join("tokenizer.json"))?;
        let vocabulary = u32::try_from(vocabulary).unwrap_or(u32::MAX);
        Ok(Self { tokenizer, begin, end, positions, vocabulary })
    }

    /// The token that every caption begins with.
    pub(super) const fn first(&self) -> u32 {
        self.begin
    }

    /// Tokens that the network knows.
    pub(super) const fn vocabulary(&self) -> u32 {
        self.vocabulary
    }

    /// The token that ends a caption.
    pub(super) const fn end(&self) -> u32 {
        self.end
    }

    /// Tokens of the longest caption.
    pub(super) const fn positions(&self) -> usize {
        self.positions
    }

    /// The tokens that a caption begins with: at least one, and fewer than [`Self::positions`].
    ///
    /// # Errors
    /// When the prompt is longer.
    pub(super) fn begin(&self, prompt: &str) -> Result<Vec<u32>, ItemError> {
        let encoding = self.tokenizer.encode_fast(prompt, false);
        let encoding = encoding
            .map_err(|error| ItemError::Invalid { message: format!("tokenizing: {error}") })?;
        let mut tokens = vec![self.begin];
        tokens.extend(encoding.get_ids());
        if let Some(token) = tokens.iter().find(|token| **token >= self.vocabulary) {
            let message =
                format!("token {token} is outside the model's {} tokens", self.vocabulary);
            return Err(ItemError::Internal { message });
        }
        let (count, most) = (tokens.len(), self.positions);
        if count < most {
            return Ok(tokens);
        }
        let message = format!(
            "the prompt has {count} tokens, and the model reads {most} with the caption: shorten it"
        );
        Err(ItemError::Invalid { message })
    }

    /// A caption's text.
    pub(super) fn text(&self, prompt: &[u32], said: &[u32]) -> String {
        // The first token is no word.
        let tokens: Vec<u32> = prompt.iter().skip(1).chain(said).copied().collect();
        // It fails for tokens of other models only, and those were never chosen.
        self.tokenizer.decode(&tokens, true).unwrap_or_default()
    }
}
