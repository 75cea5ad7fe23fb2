//! The only source of chance: seeded, and the same on every machine.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

/// A stream of random values.
#[derive(Debug, Clone)]
pub(crate) struct Random(Xoshiro256PlusPlus);

impl Random {
    /// Streams of one seed are independent of each other, so that what one of them is used for does
    /// not shift the others.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stream.rotate_left(32);
        Self(Xoshiro256PlusPlus::seed_from_u64(mixed))
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// True with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        // Drawn even if the answer is certain, so that a rate does not shift what follows.
        self.unit() < probability
    }

    /// Uniform, both ends included.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0.random_range(least..=most.max(least))
    }

    pub(crate) fn number(&mut self, least: u32, most: u32) -> u32 {
        self.0.random_range(least..=most.max(least))
    }

    /// Uniform, both ends included.
    pub(crate) fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }

    /// Of an exponential distribution: the time to the next of events that come independently.
    pub(crate) fn wait(&mut self, mean: Duration) -> Duration {
        let times = -(1.0 - self.unit()).ln();
        mean.mul_f64(times.clamp(0.01, 20.0))
    }

    /// A place in a list of this length; 0 for an empty one.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        self.0.random_range(0..length.max(1))
    }

    /// Fresh bytes for an id or a token.
    pub(crate) fn bytes(&mut self) -> [u8; 16] {
        self.0.random()
    }
}
