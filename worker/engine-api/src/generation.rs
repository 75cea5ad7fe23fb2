//! Generating text: what goes in, what comes out, and what is heard of it in between.

use serde::{Deserialize, Serialize};

/// A text to be continued or a conversation to be answered, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationInput {
    pub prompt: Prompt,
    pub settings: GenerationSettings,
    /// Tokens that an earlier engine generated: this one goes on behind them, as that one would have.
    pub generated: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prompt {
    /// Continued as it is.
    Text(String),
    /// Put into the form that the model was trained on.
    Chat(Vec<ChatMessage>),
}

impl Prompt {
    /// How much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Chat(messages) => {
                messages.iter().map(|message| message.role.len() + message.content.len()).sum()
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Such as `system`, `user` or `assistant`.
    pub role: String,
    pub content: String,
}

/// How tokens are chosen, and where the text ends. The bounds are those of `stoker-core`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationSettings {
    /// Tokens to generate at most.
    pub max_tokens: u32,
    /// Zero: always the likeliest token.
    pub temperature: f32,
    pub top_p: f32,
    /// Zero: all.
    pub top_k: u32,
    pub repeat_penalty: f32,
    /// The same seed, prompt and settings give the same text.
    pub seed: u64,
    /// Texts at which it ends; they are not part of it.
    pub stops: Vec<String>,
}

impl GenerationSettings {
    /// Always the likeliest token, up to so many; nothing else bounds the choice.
    pub const fn greedy(max_tokens: u32) -> Self {
        Self {
            max_tokens,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            repeat_penalty: 1.0,
            seed: 0,
            stops: Vec::new(),
        }
    }
}

/// A generated text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    pub text: String,
    pub finish: Finish,
    pub prompt_tokens: u32,
    /// Those of earlier engines included, and the one that ended it.
    pub generated_tokens: u32,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finish {
    /// The model ended it, or one of the stop texts came.
    Stop,
    /// It has as many tokens as were allowed.
    Length,
}

/// What was generated since the last time. An engine that goes on behind an earlier one tells all of the text
/// again, from its first token.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Piece {
    /// Tokens of the text before these.
    pub tokens_before: usize,
    pub tokens: Vec<u32>,
    /// Bytes of the text before this.
    pub bytes_before: usize,
    /// Whole characters; together with those before it the beginning of the text.
    pub text: String,
}

impl Piece {
    /// Adds the piece that comes next.
    pub fn append(&mut self, next: Self) {
        if self.tokens.is_empty() && self.text.is_empty() {
            *self = next;
        } else {
            self.tokens.extend(next.tokens);
            self.text.push_str(&next.text);
        }
    }
}

/// Hears what a batch has so far.
pub trait Listener: Sync {
    /// Another piece of the item at this place of the batch. Whether the item is still wanted.
    fn said(&self, item: usize, piece: Piece) -> Wanted;

    /// Whether the item at this place of the batch is still wanted, when there is nothing to tell of it.
    fn wanted(&self, _item: usize) -> Wanted {
        Wanted::Yes
    }
}

/// Whether somebody waits for an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Yes,
    No,
}

/// Hears nothing, and wants all.
#[derive(Debug, Clone, Copy)]
pub struct Deaf;

impl Listener for Deaf {
    fn said(&self, _: usize, _: Piece) -> Wanted {
        Wanted::Yes
    }
}
