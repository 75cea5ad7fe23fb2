//! How many repetitions a cloud's interface is given: a bucket of tokens that fills with time.

use std::time::Duration;

use crate::time::Timestamp;

/// The repetitions that are left for one kind of call. First tries cost nothing: a budget only keeps an outage from
/// being met with a multiple of the usual calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    tokens: f64,
    capacity: f64,
    per_second: f64,
    filled_at: Option<Timestamp>,
}

impl RetryBudget {
    /// A full budget of `capacity` repetitions, of which one comes back every `refill`; never, if that is zero.
    pub fn new(capacity: u32, refill: Duration) -> Self {
        let capacity = f64::from(capacity);
        let per_second = if refill.is_zero() { 0.0 } else { 1.0 / refill.as_secs_f64() };
        Self { tokens: capacity, capacity, per_second, filled_at: None }
    }

    /// Takes one repetition; false if there is none left. A clock that goes back fills nothing.
    #[must_use]
    pub fn take(&mut self, now: Timestamp) -> bool {
        let before = self.filled_at.unwrap_or(now);
        let filled = now.since(before).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + filled).min(self.capacity);
        self.filled_at = Some(before.max(now));
        let some = self.tokens >= 1.0;
        if some {
            self.tokens -= 1.0;
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_millis(seconds * 1000)
    }

    #[test]
    fn a_budget_is_spent_and_comes_back_with_time() {
        let mut budget = RetryBudget::new(2, Duration::from_secs(10));
        let taken = [0, 0, 0, 9, 10, 10, 100, 100, 100].map(|second| budget.take(at(second)));
        assert_eq!(taken, [true, true, false, false, true, false, true, true, false]);
    }

    #[test]
    fn a_clock_that_goes_back_fills_nothing() {
        let mut budget = RetryBudget::new(1, Duration::from_secs(10));
        assert!(budget.take(at(100)));
        assert!(!budget.take(at(0)));
        assert!(!budget.take(at(100)), "the time until then was counted before");
        assert!(budget.take(at(110)));
    }

    proptest! {
        #[test]
        fn never_more_than_full_and_what_came_back(
            capacity in 0_u32..20,
            refill in 1_u64..100,
            times in proptest::collection::vec(0_i64..1000, 1..200),
        ) {
            let mut budget = RetryBudget::new(capacity, Duration::from_secs(refill));
            let taken = times.iter().filter(|time| budget.take(at(**time))).count();
            let span = times.iter().max().unwrap() - times.iter().min().unwrap();
            let bound = u64::from(capacity) + span.unsigned_abs() / refill + 1;
            prop_assert!(u64::try_from(taken).unwrap() <= bound);
        }
    }
}
