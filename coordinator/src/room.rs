//! Memory that callers may fill together: what would go beyond it is refused.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for so many bytes, counted in KiB.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    pub(crate) fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes >> 10)))
    }

    /// Takes room for `bytes`, until the permit is dropped; `None` when there is not enough left.
    pub(crate) fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(kib).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_and_comes_back() {
        let room = Room::of(10 << 10);
        let half = room.take(5 << 10);
        assert!(half.is_some() && room.take((5 << 10) + 1).is_none());
        drop(half);
        assert!(room.take(10 << 10).is_some());
        assert!(room.take(usize::MAX).is_none());
    }
}
