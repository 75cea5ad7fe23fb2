//! How a download is divided, and which of its parts are there. No I/O.

use std::collections::BTreeSet;
use std::ops::Range;

/// Bytes of one request. Large enough that its latency does not count, small enough that a broken one costs little. The
/// tests beside the code have no network.
pub(crate) const PART: u64 = if cfg!(test) { 64 << 10 } else { 8 << 20 };

/// A file that arrives in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    size: u64,
    done: BTreeSet<u64>,
}

impl Parts {
    /// A file of `size` bytes of which these parts are there; numbers beyond the file are ignored.
    pub(crate) fn new(size: u64, done: impl IntoIterator<Item = u64>) -> Self {
        let count = size.div_ceil(PART);
        Self { size, done: done.into_iter().filter(|part| *part < count).collect() }
    }

    /// The parts that are missing, with their places in the file.
    pub(crate) fn missing(&self) -> Vec<(u64, Range<u64>)> {
        (0..self.size.div_ceil(PART))
            .filter(|part| !self.done.contains(part))
            .map(|part| (part, self.range(part)))
            .collect()
    }

    /// A part has arrived.
    pub(crate) fn arrived(&mut self, part: u64) {
        self.done.insert(part);
    }

    /// Bytes that are there.
    pub(crate) fn bytes(&self) -> u64 {
        self.done.iter().map(|part| self.range(*part)).map(|range| range.end - range.start).sum()
    }

    fn range(&self, part: u64) -> Range<u64> {
        let start = part.saturating_mul(PART).min(self.size);
        start..start.saturating_add(PART).min(self.size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_missing_and_what_is_there_are_the_whole_file(
            size in 0..10 * PART,
            done in proptest::collection::btree_set(0_u64..12, 0..12),
        ) {
            let mut parts = Parts::new(size, done);
            let mut at: u64 = 0;
            let missing: u64 = parts.missing().iter().map(|(_, range)| range.end - range.start).sum();
            prop_assert_eq!(missing + parts.bytes(), size);
            for (part, range) in parts.missing() {
                prop_assert!(range.start >= at && range.start < range.end && range.end <= size);
                at = range.end;
                parts.arrived(part);
            }
            prop_assert_eq!(parts.bytes(), size);
            prop_assert!(parts.missing().is_empty());
        }
    }
}
