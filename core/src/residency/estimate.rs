//! What a model needs before it was ever measured.

use std::time::Duration;

/// Of the bytes on disk: batches need room beside the weights.
const FACTOR: (u64, u64) = (5, 4);
/// Starting an engine and its warm-up, whatever its size.
const LOAD_BASE: Duration = Duration::from_millis(300);
/// What a fast local disk and the copy to the device give.
const BYTES_PER_SECOND: u64 = 1_000_000_000;

/// What a model probably needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// No engine needs less, whatever was measured: what it had when it was looked at is not what it has in a batch.
    pub least_bytes: u64,
    pub need_bytes: u64,
    /// From the start of its engine until it is warm.
    pub load: Duration,
}

impl Estimate {
    /// For weights of this size on disk, with an engine that needs `least_bytes` without any.
    pub const fn of(weights_bytes: u64, least_bytes: u64) -> Self {
        let weights = (weights_bytes / FACTOR.1).saturating_mul(FACTOR.0);
        let millis = weights_bytes / (BYTES_PER_SECOND / 1_000);
        Self {
            least_bytes,
            need_bytes: weights.saturating_add(least_bytes),
            load: LOAD_BASE.saturating_add(Duration::from_millis(millis)),
        }
    }

    /// What a model needs that was found to use so much.
    pub const fn with_measured(&self, bytes: u64) -> u64 {
        if bytes > self.least_bytes { bytes } else { self.least_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_need_room_beside_them_and_time() {
        let one = Estimate::of(1_000_000_000, 30_000_000);
        assert_eq!((one.need_bytes, one.load), (1_280_000_000, Duration::from_millis(1_300)));
        assert_eq!((one.with_measured(7), one.with_measured(31_000_000)), (30_000_000, 31_000_000));
        let none = Estimate::of(0, 30_000_000);
        assert_eq!((none.need_bytes, none.load), (30_000_000, LOAD_BASE));
        assert!(Estimate::of(u64::MAX, u64::MAX).need_bytes == u64::MAX, "absurd sizes are taken");
    }
}
