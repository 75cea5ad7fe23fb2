//! What can go wrong with one item, with one batch, and with starting an engine.

use serde::{Deserialize, Serialize};

use crate::{ItemInput, TaskKind};

/// One item cannot be prepared. Its neighbors are not affected. What it means for the item's job is the
/// worker's to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ItemError {
    #[error("the task {task} takes {expected}, not {got}")]
    WrongKind { task: String, expected: String, got: String },
    #[error("invalid input: {message}")]
    Invalid { message: String },
    #[error("the engine holds {held} prepared items, its limit: run or forget some first")]
    Full { held: u64 },
    #[error("preparing the item failed inside the engine: {message}")]
    Internal { message: String },
}

impl ItemError {
    /// The task takes another kind of input.
    pub fn wrong_kind(task: TaskKind, expected: &str, got: &ItemInput) -> Self {
        Self::WrongKind {
            task: task.to_string(),
            expected: expected.to_owned(),
            got: got.kind().to_owned(),
        }
    }
}

/// A batch failed as a whole; its items stay prepared until they are run again or forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum EngineError {
    /// The device had no memory for this batch: try it in smaller parts.
    #[error("out of device memory: {message}")]
    OutOfMemory { message: String },
    /// The device reported an error that later calls would see too.
    #[error("device error: {message}")]
    Device { message: String },
    /// The batch cannot be run as it was given; another batch can.
    #[error("the batch cannot be run: {message}")]
    Input { message: String },
    /// The engine broke its own rules (a panic, a number that is not finite).
    #[error("the engine failed: {message}")]
    Internal { message: String },
}

impl EngineError {
    /// Whether the engine process ends after it reported this error, because its state is unknown.
    pub const fn ends_engine(&self) -> bool {
        match self {
            Self::Device { .. } | Self::Internal { .. } => true,
            Self::OutOfMemory { .. } | Self::Input { .. } => false,
        }
    }
}

/// An engine could not start. Trying again without doing what `remedy` says fails the same way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct StartError {
    /// What failed, naming the file or argument.
    pub message: String,
    /// What a person can do about it.
    pub remedy: String,
}

impl StartError {
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}
