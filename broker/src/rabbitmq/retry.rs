//! When to try to connect again: capped exponential backoff with full jitter, deterministic by
//! seed.

use std::time::Duration;

use super::config::Backoff;

/// Shortest wait, so that full jitter never becomes a busy loop.
const FLOOR: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Retry {
    backoff: Backoff,
    failures: u32,
    random: u64,
}

impl Retry {
    pub(super) fn new(backoff: Backoff) -> Self {
        let random = backoff.seed;
        Self { backoff, failures: 0, random }
    }

    /// The next attempt starts from the shortest wait again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(super) fn next_wait(&mut self) -> Duration {
        let doubled = self.backoff.first.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let ceiling = doubled.min(self.backoff.cap);
        ceiling.mul_f64(self.next_fraction()).max(FLOOR.min(ceiling))
    }

    /// Uniform in [0, 1): splitmix64, of which 32 bits are plenty.
    fn next_fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = u32::try_from((z ^ (z >> 31)) >> 32).expect("64 bits shifted by 32 fit");
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(seed: u64) -> Retry {
        let (first, cap) = (Duration::from_millis(200), Duration::from_secs(5));
        Retry::new(Backoff { first, cap, seed })
    }

    #[test]
    fn waits_grow_to_the_cap_and_never_vanish() {
        for seed in 0..200 {
            let mut retry = retry(seed);
            for attempt in 0..40 {
                let ceiling =
                    Duration::from_millis(200 << attempt.min(10)).min(Duration::from_secs(5));
                let wait = retry.next_wait();
                assert!(wait >= FLOOR && wait <= ceiling, "{seed} {attempt} {wait:?}");
            }
        }
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let waits: Vec<Duration> = (0..1000).map(|seed| retry(seed).next_wait()).collect();
        let short = waits.iter().filter(|wait| **wait < Duration::from_millis(100)).count();
        assert!((400..600).contains(&short), "{short}");
    }

    #[test]
    fn a_reset_starts_over() {
        let mut retry = retry(7);
        for _ in 0..10 {
            retry.next_wait();
        }
        retry.reset();
        assert!(retry.next_wait() <= Duration::from_millis(200));
    }
}
