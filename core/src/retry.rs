//! When a failed attempt is tried again.

use std::time::Duration;

use crate::policy::RetryPolicy;

/// Delay before the attempt after `failures` failures: full jitter under a doubling, capped bound
/// (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog 2015).
///
/// `jitter` is uniform in `[0, 1)` and is clamped to it; not-a-number counts as 1.
pub fn delay(policy: &RetryPolicy, failures: u32, jitter: f64) -> Duration {
    let jitter = if jitter.is_nan() { 1.0 } else { jitter.clamp(0.0, 1.0) };
    bound(policy, failures).mul_f64(jitter)
}

/// Longest delay that [`delay`] can return.
pub fn bound(policy: &RetryPolicy, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    policy.base_delay.saturating_mul(1 << doublings).min(policy.max_delay)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bounds_grow_and_are_capped(failures in 0_u32..1000) {
            let policy = RetryPolicy::default();
            prop_assert!(bound(&policy, failures) <= bound(&policy, failures + 1));
            prop_assert!(bound(&policy, failures) <= policy.max_delay);
        }

        #[test]
        fn delays_stay_under_their_bound(failures in 0_u32..1000, jitter in proptest::num::f64::ANY) {
            let policy = RetryPolicy::default();
            prop_assert!(delay(&policy, failures, jitter) <= bound(&policy, failures));
        }
    }
}
