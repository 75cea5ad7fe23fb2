//! How many jobs of one (pool, model) may be in the broker and at workers at once.
//!
//! Small, since what is released can no longer be reordered: the backlog's order is kept in the
//! store. Large enough that no worker runs dry while the dispatcher makes its next round.

/// Bounds of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowPolicy {
    /// Never less, so that the first worker of a pool finds work at once. Small: what is released
    /// without anybody to take it can no longer be reordered.
    pub min: u32,
    /// Never more, whatever was measured.
    pub max: u32,
}

impl Default for WindowPolicy {
    fn default() -> Self {
        Self { min: 2, max: 4096 }
    }
}

/// Jobs that may be in flight: twice the slots of the ready workers, or one second of the measured
/// throughput if that is more.
///
/// A throughput that is not a number or negative counts as 0. A policy with `min` above `max` gives
/// `max`.
#[must_use]
pub fn size(slots: u32, jobs_per_second: f64, policy: WindowPolicy) -> u32 {
    slots.saturating_mul(2).max(whole(jobs_per_second)).max(policy.min).min(policy.max)
}

/// Rounds up; saturates.
fn whole(rate: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, and takes not-a-number for 0"
    )]
    let whole = rate.ceil() as u32;
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: WindowPolicy = WindowPolicy { min: 8, max: 4096 };

    #[test]
    fn the_larger_of_slots_and_throughput_decides() {
        for (slots, rate, expected) in [
            (0, 0.0, 8),
            (3, 0.0, 8),
            (10, 0.0, 20),
            (10, 20.0, 20),
            (10, 20.1, 21),
            (10, 500.0, 500),
            (10_000, 0.0, 4096),
            (u32::MAX, 1.0, 4096),
            (0, f64::NAN, 8),
            (0, f64::INFINITY, 4096),
            (0, -5.0, 8),
            (0, f64::NEG_INFINITY, 8),
        ] {
            assert_eq!(size(slots, rate, POLICY), expected, "{slots} slots, {rate}/s");
        }
    }

    proptest! {
        #[test]
        fn windows_stay_in_bounds_and_grow_with_their_inputs(
            slots in 0..u32::MAX,
            rate in proptest::num::f64::ANY,
            min in 0_u32..10_000,
            max in 0_u32..10_000,
        ) {
            let policy = WindowPolicy { min, max };
            let window = size(slots, rate, policy);
            prop_assert!(window <= max && window >= min.min(max));
            prop_assert!(size(slots + 1, rate, policy) >= window);
            prop_assert!(size(slots, rate + 1.0, policy) >= window || (rate + 1.0).is_nan());
        }
    }
}
