//! How much may wait for a store's writer: calls, and the data they bring.

use tokio::sync::mpsc::error::TrySendError;

use super::StoreError;

/// Calls that may wait; one more is refused.
pub(super) const QUEUE: usize = 4096;
/// Bytes that calls may hold while they wait: a disk or a database that stalls must not fill the memory.
pub(super) const ROOM: usize = 256 << 20;

/// Why a call did not get into the queue.
pub(super) fn refusal<T>(error: &TrySendError<T>) -> StoreError {
    match error {
        TrySendError::Full(_) => StoreError::Overloaded,
        TrySendError::Closed(_) => StoreError::Unavailable,
    }
}
