//! What an engine says about itself once it is ready.

use serde::{Deserialize, Serialize};

use crate::{Labels, TaskKind};

/// A loaded, warmed-up model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// The model's name in the registry, as the worker gave it.
    pub model: String,
    pub task: TaskKind,
    /// Numbers per output vector, for tasks whose output is a vector.
    pub output_dimensions: Option<u32>,
    /// What the scores are of, for tasks whose output is scores; without names where each item brings its own.
    pub labels: Option<Labels>,
    /// Tokens of one item that the model reads; longer items are truncated to it.
    pub max_tokens: u32,
    /// Sum of costs up to which a batch was found worthwhile and was tried at start.
    pub max_batch_tokens: u32,
    /// Size of the weights in the device's memory, in bytes.
    pub weights_bytes: u64,
    /// SHA-256 of the weights that were loaded, in lowercase hex; none for a model without weights.
    pub weights_sha256: Option<String>,
    /// How many batches run at the same time; at least 1. Sending one more per lane keeps them busy.
    pub lanes: u32,
    /// Where the model runs: `cpu`, `cuda:0`.
    pub device: String,
    pub load: LoadSeconds,
}

/// How long each phase of loading took, in seconds. Phases overlap.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LoadSeconds {
    /// Reading the files.
    pub read: f64,
    /// Waiting for the digest of the weights after everything else was there.
    pub digest: f64,
    /// Checking the weights and moving them to the device.
    pub build: f64,
    /// Reading and building the tokenizer, beside reading the weights.
    pub tokenizer: f64,
    /// First runs and the canary.
    pub warm_up: f64,
    /// From the first to the last.
    pub elapsed: f64,
}

impl LoadSeconds {
    /// How long loading took, from the first phase to the last.
    pub const fn total(&self) -> f64 {
        self.elapsed
    }
}
