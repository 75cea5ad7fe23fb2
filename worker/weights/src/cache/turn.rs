//! The right to download some weights, which one process has at a time.

use std::sync::Arc;

use super::blocking;
use super::lock::Lock;
use crate::error::WeightsError;

/// A right that lasts until its last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    _held: Arc<Lock>,
}

impl Turn {
    pub(super) fn new(held: Lock) -> Self {
        Self { _held: Arc::new(held) }
    }

    /// Runs blocking work under the turn. It goes on when nobody waits for it any more, and so does the turn: nobody
    /// else writes the same files meanwhile.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, WeightsError> + Send + 'static,
    ) -> Result<T, WeightsError> {
        let turn = self.clone();
        blocking(move || {
            let result = work();
            drop(turn);
            result
        })
        .await
    }
}
