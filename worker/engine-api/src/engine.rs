//! The contract that every model implementation keeps.

use crate::{EngineError, EngineInfo, ItemError, ItemInput, ItemOutput, Listener};

/// A loaded model that turns items into outputs. Synchronous: the caller owns the threads.
pub trait Engine: Send + Sync + 'static {
    /// An item ready to run: token ids, pixels. Its type is the engine's own business.
    type Prepared: Prepared;

    /// What was loaded. Constant for the engine's life.
    fn info(&self) -> &EngineInfo;

    /// Turns an input into what [`run`](Self::run) needs. Runs beside `run` on other threads, so
    /// it must not use the device.
    ///
    /// # Errors
    /// When this item, and only this one, cannot be processed. The error is about the item, never
    /// about the engine's state.
    fn prepare(&self, input: ItemInput) -> Result<Self::Prepared, ItemError>;

    /// Runs a batch. Called from up to `info().lanes` threads at the same time. On success there
    /// is exactly one output per item, in the order of the items, and an item's output does not
    /// depend on its neighbors beyond rounding. An empty batch gives an empty answer.
    ///
    /// # Errors
    /// When the whole batch has no outputs. After an error for which
    /// [`EngineError::ends_engine`] holds the caller runs nothing more.
    fn run(&self, items: &[&Self::Prepared]) -> Result<Vec<ItemOutput>, EngineError>;

    /// The same, and tells `listener` of outputs that come bit by bit. An engine whose batches are
    /// worked on together, step by step, runs as many as it has lanes and takes one item each.
    ///
    /// # Errors
    /// As of [`run`](Self::run). An item that is not wanted any more ends its batch with
    /// [`EngineError::Input`].
    fn run_heard(
        &self,
        items: &[&Self::Prepared],
        _listener: &dyn Listener,
    ) -> Result<Vec<ItemOutput>, EngineError> {
        self.run(items)
    }
}

/// A prepared item.
pub trait Prepared: Send + Sync + 'static {
    /// The item's share of a batch's budget, in tokens; at least 1.
    fn cost(&self) -> u32;
}
