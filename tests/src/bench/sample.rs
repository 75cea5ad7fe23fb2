//! Latencies of one measurement, and how they are told.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Ten minutes: what takes longer counts as that.
const LONGEST_MICROS: u64 = 600_000_000;

/// Latencies of operations that were measured together.
#[derive(Debug)]
pub struct Sample {
    histogram: Histogram<u64>,
    started: Instant,
    took: Duration,
}

impl Default for Sample {
    fn default() -> Self {
        Self::new()
    }
}

impl Sample {
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_MICROS, 3);
        let histogram = histogram.expect("these are valid bounds and a valid precision");
        Self { histogram, started: Instant::now(), took: Duration::ZERO }
    }

    /// Notes one operation that began at `began` and ends now.
    pub fn note(&mut self, began: Instant) {
        self.note_time(began.elapsed());
    }

    /// Notes one that took this long.
    pub fn note_time(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(micros.max(1));
        self.took = self.started.elapsed();
    }

    /// Adds what another measured at the same time.
    pub fn merge(&mut self, other: &Self) {
        self.histogram += &other.histogram;
        self.started = self.started.min(other.started);
        self.took = self.took.max(other.took);
    }

    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Operations per second.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
        let count = self.count() as f64;
        count / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Milliseconds that this fraction of the operations stayed within.
    pub fn millis(&self, fraction: f64) -> f64 {
        let micros = self.histogram.value_at_quantile(fraction);
        Duration::from_micros(micros).as_secs_f64() * 1e3
    }

    pub fn to_json(&self) -> Value {
        json!({
            "count": self.count(),
            "per_second": round(self.rate(), 1),
            "p50_ms": round(self.millis(0.5), 3),
            "p99_ms": round(self.millis(0.99), 3),
        })
    }
}

/// Rounds for display.
pub fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
