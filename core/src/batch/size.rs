//! How large batches should be, learned from how fast they were.

use std::time::Duration;

/// A size is as good as the best if it is at most this much slower per token.
const SLOWER: f64 = 0.03;
/// Batches of a size before it is judged.
const JUDGED_AFTER: f64 = 8.0;
/// What an observation still counts after the next one of its size.
const FADE: f64 = 0.98;
/// One batch in so many is of another size than the best known one.
const PROBE_EVERY: u64 = 32;
/// The smallest size that is chosen is this part of what fits: what a batch costs outside of the engine is not
/// measured.
const SMALLEST: u32 = 8;
/// Sizes are counted by powers of two.
const SIZES: usize = 32;

/// What batches of about one size took, faded.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Took {
    batches: f64,
    tokens: f64,
    seconds: f64,
}

impl Took {
    /// Tokens in a second, if it is known well enough.
    fn rate(&self) -> Option<f64> {
        (self.batches >= JUDGED_AFTER && self.seconds > 0.0).then(|| self.tokens / self.seconds)
    }
}

/// Of one model on one device: the smallest size of batches beyond which more tokens at once gain nothing. What is
/// larger only makes items wait for each other.
///
/// Sizes come about by themselves while little waits; now and then one is tried on purpose, so that what was learned
/// is found wrong when it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BatchSize {
    took: [Took; SIZES],
    measured: u64,
}

impl BatchSize {
    /// A batch of so many tokens ran for so long.
    pub fn measured(&mut self, tokens: u64, busy: Duration) {
        self.measured = self.measured.wrapping_add(1);
        let Ok(tokens) = u32::try_from(tokens) else { return };
        let Some(took) = size_of(tokens).and_then(|size| self.took.get_mut(size)) else { return };
        took.batches = took.batches * FADE + 1.0;
        took.tokens = took.tokens * FADE + f64::from(tokens);
        took.seconds = took.seconds * FADE + busy.as_secs_f64();
    }

    /// Most tokens of the batches to come, at least 1 and never more than `limit`, which is what fits.
    pub fn best(&self, limit: u32) -> u32 {
        let limit = limit.max(1);
        let Some(largest) = size_of(limit) else { return limit };
        let smallest = (limit / SMALLEST).max(1);
        let from = size_of(smallest).unwrap_or(0);
        let known = || self.took.iter().enumerate().take(largest + 1).skip(from);
        // Before the largest are known nothing says that smaller ones will do.
        if self.took.get(largest).and_then(Took::rate).is_none() {
            return limit;
        }
        let best = known().filter_map(|(_, took)| took.rate()).fold(0.0, f64::max);
        let good = |(_, took): &(usize, &Took)| {
            took.rate().is_some_and(|rate| rate >= best * (1.0 - SLOWER))
        };
        known().find(good).map_or(limit, |(size, _)| largest_of(size).clamp(smallest, limit))
    }

    /// Most tokens of the next batch: the best, or now and then another size to try.
    pub fn next(&self, limit: u32) -> u32 {
        let best = self.best(limit);
        if self.measured % PROBE_EVERY == PROBE_EVERY - 1 {
            limit.max(1)
        } else if self.measured % PROBE_EVERY == PROBE_EVERY / 2 - 1 {
            (best / 2).max(limit / SMALLEST).max(1)
        } else {
            best
        }
    }
}

/// Number of the size that so many tokens are of; none of no tokens.
fn size_of(tokens: u32) -> Option<usize> {
    usize::try_from(tokens.checked_ilog2()?).ok()
}

/// Most tokens that are of a size.
fn largest_of(size: usize) -> u32 {
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    u32::MAX >> (u32::BITS - 1).saturating_sub(size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A device that takes `overhead` for a batch and `per_token` for each token.
    fn run(size: &mut BatchSize, (overhead, per_token): (f64, f64), batches: usize, limit: u32) {
        for _ in 0..batches {
            let tokens = size.next(limit);
            let busy = Duration::from_secs_f64(overhead + per_token * f64::from(tokens));
            size.measured(u64::from(tokens), busy);
        }
    }

    #[test]
    fn batches_are_no_larger_than_what_gains() {
        let limit = 1 << 14;
        let mut size = BatchSize::default();
        assert_eq!(size.best(limit), limit, "as long as nothing is known");
        // The overhead of a batch is 3 % of it at some 3,300 tokens.
        run(&mut size, (1e-3, 1e-5), 4_000, limit);
        let best = size.best(limit);
        assert!((2_048..8_192).contains(&best), "{best}");
        // Without any overhead the smallest is as good.
        let mut size = BatchSize::default();
        run(&mut size, (0.0, 1e-5), 40_000, 1 << 10);
        assert_eq!(size.best(1 << 10), 255, "the size of an eighth");
    }

    #[test]
    fn batches_are_as_large_as_fits_where_each_token_more_gains() {
        let mut size = BatchSize::default();
        run(&mut size, (1.0, 1e-7), 4_000, 16_384);
        assert_eq!(size.best(16_384), 16_384);
        assert_eq!(size.best(1_000), 1_000, "a limit that has sunk is kept");
    }

    #[test]
    fn what_was_learned_is_given_up_when_it_is_wrong() {
        let limit = 1 << 14;
        let mut size = BatchSize::default();
        run(&mut size, (0.0, 1e-5), 20_000, limit);
        let small = size.best(limit);
        // Each batch costs much now.
        run(&mut size, (0.5, 1e-5), 20_000, limit);
        assert!(size.best(limit) >= small * 4, "{small} {}", size.best(limit));
    }

    proptest! {
        #[test]
        fn no_measurement_leads_beyond_what_fits(
            batches in proptest::collection::vec((any::<u64>(), 0_u64..1_000_000_000), 0..300),
            limit in any::<u32>(),
        ) {
            let mut size = BatchSize::default();
            for (tokens, micros) in batches {
                size.measured(tokens >> (micros % 64), Duration::from_micros(micros));
                for tokens in [size.best(limit), size.next(limit)] {
                    prop_assert!((1..=limit.max(1)).contains(&tokens));
                }
            }
        }

        #[test]
        fn sizes_hold_what_is_of_them(tokens in 1_u32..) {
            let size = size_of(tokens).unwrap();
            prop_assert!(tokens <= largest_of(size));
            prop_assert!(size == 0 || tokens > largest_of(size - 1));
        }
    }
}
