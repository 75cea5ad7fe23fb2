//! The words of a language model: prompts to tokens, tokens to text, and which tokens end a text.

mod files;
mod gguf;

use std::collections::BTreeSet;

use stoker_engine_api::{ItemError, Prompt};
use tokenizers::Tokenizer;

use crate::chat::ChatTemplate;
use crate::generation::ToText;

pub(crate) use files::{TokenName, from_files, tokenizer};
pub(crate) use gguf::from_gguf;

/// A model's tokenizer with what belongs to it.
pub(crate) struct Vocabulary {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    /// The token that every prompt begins with, where the tokenizer does not add it itself.
    begin: Option<u32>,
    ends: BTreeSet<u32>,
    /// Tokens that the network knows.
    size: u32,
}

/// Where a prompt's special tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Special {
    /// The tokenizer adds its own.
    Added,
    /// They are in the text.
    Written,
}

impl Vocabulary {
    /// The tokens that end a text.
    pub(crate) const fn ends(&self) -> &BTreeSet<u32> {
        &self.ends
    }

    pub(crate) const fn size(&self) -> u32 {
        self.size
    }

    /// The tokens of a prompt; at least one.
    ///
    /// # Errors
    /// When it has none, or the model has no form for conversations or refuses this one.
    pub(crate) fn encode(&self, prompt: &Prompt) -> Result<Vec<u32>, ItemError> {
        let mut tokens = match prompt {
            Prompt::Text(text) => self.tokens(text, Special::Added)?,
            Prompt::Chat(messages) => {
                let Some(template) = &self.template else {
                    let message = "the model has no chat template: give it a text to continue";
                    return Err(ItemError::Invalid { message: message.to_owned() });
                };
                // The template writes the special tokens itself.
                self.tokens(&template.render(messages)?, Special::Written)?
            }
        };
        if let Some(begin) = self.begin.filter(|begin| tokens.first() != Some(begin)) {
            tokens.insert(0, begin);
        }
        if let Some(token) = tokens.iter().find(|token| **token >= self.size) {
            let message = format!("token {token} is outside the model's {} tokens", self.size);
            return Err(ItemError::Internal { message });
        }
        if tokens.is_empty() {
            let message = "the prompt has no tokens".to_owned();
            return Err(ItemError::Invalid { message });
        }
        Ok(tokens)
    }

    fn tokens(&self, text: &str, special: Special) -> Result<Vec<u32>, ItemError> {
        let encoding = self.tokenizer.encode_fast(text, special == Special::Added);
        let encoding = encoding
            .map_err(|error| ItemError::Invalid { message: format!("tokenizing: {error}") })?;
        Ok(encoding.get_ids().to_vec())
    }
}

impl ToText for Vocabulary {
    fn text(&self, tokens: &[u32]) -> String {
        // It fails for tokens of other models only, and those were never chosen.
        self.tokenizer.decode(tokens, true).unwrap_or_default()
    }
}
