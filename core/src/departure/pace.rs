//! How fast an engine works through items, as measured lately.

use std::time::Duration;

/// Items after which old measurements lose half of their weight.
const WINDOW: u64 = 4_096;

/// Time that an engine computes for an item, and for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    items: u64,
    busy: Duration,
    longest: Duration,
}

impl Pace {
    /// A batch share of `items` took `busy` on one lane.
    pub fn measured(&mut self, items: u64, busy: Duration) {
        if self.items >= WINDOW {
            self.items /= 2;
            self.busy /= 2;
        }
        self.items = self.items.saturating_add(items);
        self.busy = self.busy.saturating_add(busy);
        // Falls by an eighth with each batch: one that was slow once does not count for ever.
        self.longest = busy.max(self.longest / 8 * 7);
    }

    /// Time of one lane for an item; `None` before anything was measured.
    #[must_use]
    pub fn per_item(&self) -> Option<Duration> {
        let nanos = self.busy.as_nanos().checked_div(u128::from(self.items))?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// How long a batch may take, by the longest of late.
    #[must_use]
    pub const fn batch(&self) -> Duration {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn nothing_measured_is_not_zero() {
        assert_eq!(Pace::default().per_item(), None);
        let mut pace = Pace::default();
        pace.measured(10, 50 * MS);
        assert_eq!((pace.per_item(), pace.batch()), (Some(5 * MS), 50 * MS));
        pace.measured(0, Duration::ZERO);
        assert_eq!(pace.per_item(), Some(5 * MS));
    }

    #[test]
    fn what_was_measured_long_ago_fades() {
        let mut pace = Pace::default();
        pace.measured(WINDOW, 100 * MS * u32::try_from(WINDOW).unwrap());
        for _ in 0..200 {
            pace.measured(100, 100 * MS);
        }
        assert!(pace.per_item().unwrap() < 2 * MS, "{pace:?}");
        assert_eq!(pace.batch(), 100 * MS);
    }
}
