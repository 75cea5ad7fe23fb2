//! The messages between a worker and an engine process.
//!
//! The engine speaks first: `Hello`, then `Ready` or `Fatal`. Both sides must read while they
//! write: an engine stops reading when it holds more queued batches than twice its lanes.

use serde::{Deserialize, Serialize};

use crate::{EngineError, EngineInfo, ItemError, ItemInput, ItemOutput, Piece};

/// Raised with every change of the messages. Worker and engine must agree exactly.
pub const PROTOCOL_VERSION: u32 = 7;

/// An engine works on at most this many `Prepare` messages at the same time, and takes them in the
/// order in which they came: those beyond have not begun.
pub const MAX_PREPARE_THREADS: usize = 4;

/// Names an item between worker and engine; unique for the life of the engine process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemKey(pub u64);

/// What a worker asks of an engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToEngine {
    /// Prepare these items and keep them; answered by one `Prepared` with all of them.
    Prepare { items: Vec<(ItemKey, ItemInput)> },
    /// Run prepared items as one batch; answered by `Done` or `Failed` with the same number.
    Run { batch: u64, items: Vec<ItemKey> },
    /// Drop prepared items that will not be run. Unknown keys are ignored. An item whose text is being
    /// generated, or that is being listened to, ends, and its batch fails.
    Forget { items: Vec<ItemKey> },
    /// Finish the batches already sent, then exit. The end of stdin means the same.
    Shutdown,
}

/// What an engine tells its worker.
///
/// `Hello` keeps its place and shape in every version, so that a mismatch can be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromEngine {
    /// The first message, before loading starts; compare with [`PROTOCOL_VERSION`].
    Hello { protocol: u32 },
    /// The model is loaded, warmed up and has passed its canary.
    Ready(EngineInfo),
    /// The answer to `Prepare`, items in the same order: the cost in tokens, or why not.
    Prepared { items: Vec<(ItemKey, Result<u32, ItemError>)> },
    /// The batch ran; outputs are in the order of its items, which are now forgotten.
    Done { batch: u64, outputs: Vec<ItemOutput>, busy_micros: u64 },
    /// More of an item whose output comes bit by bit, before its batch is done. Who says so works on all
    /// batches that it was given, step by step.
    Said { batch: u64, item: ItemKey, piece: Piece },
    /// The batch has no outputs. Its items stay prepared. When [`EngineError::ends_engine`] holds,
    /// the process exits with a failure right after.
    Failed { batch: u64, error: EngineError },
    /// The engine cannot start and exits. The only message after `Hello` in that case.
    Fatal { message: String, remedy: String },
}
