//! How much oftener jobs are late than was predicted: the share of them that comes in surges which nobody foresees.
//!
//! A prediction knows how far off the forecasts usually are, but not the hour in which the load becomes tenfold
//! within a minute. How often that happens is in the record of what was predicted and what came.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fleet::number::real;

use super::history::SLOT;
use super::margin::{MEMORY, Record};

/// Jobs as many as this are taken to have waited as predicted.
const PRIOR_JOBS: f64 = 100.0;

/// The record of one class.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Surprise {
    /// Share of jobs that start in time, as it was predicted last and lately.
    last: Option<f64>,
    lately: Option<f64>,
    /// Decayed numbers of jobs: those that were to start in time, and those that did.
    expected: f64,
    kept: f64,
}

impl Surprise {
    /// Notes a prediction of the share that starts in time.
    pub(crate) fn predict(&mut self, share: f64) {
        self.last = share.is_finite().then(|| share.clamp(0.0, 1.0));
    }

    /// Takes in jobs that started within the `slots` since the last prediction, which are as those of the last `horizon`
    /// foresaw them.
    pub(crate) fn observe(&mut self, starts: Record, slots: u64, horizon: Duration) {
        let Some(last) = self.last else { return };
        let passed = real(slots) * SLOT.as_secs_f64();
        let share = 1.0 - (-2.0 * passed / horizon.as_secs_f64().max(1.0)).exp();
        let lately = self.lately.map_or(last, |lately| lately + (last - lately) * share);
        self.lately = Some(lately);
        let fade = (-passed / MEMORY.as_secs_f64()).exp();
        self.expected = self.expected * fade + starts.started * lately;
        self.kept = self.kept * fade + (starts.started - starts.late).max(0.0);
    }

    /// Share of the jobs that were to start in time and did not, 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        let kept = (self.kept + PRIOR_JOBS) / (self.expected + PRIOR_JOBS);
        if kept.is_finite() { (1.0 - kept).clamp(0.0, 1.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share after two days of ten jobs a slot, of which so many are late.
    fn after(predicted: f64, late: f64) -> f64 {
        let mut surprise = Surprise::default();
        for _ in 0..2 * 5760 {
            surprise.observe(Record { started: 10.0, late }, 1, Duration::from_mins(5));
            surprise.predict(predicted);
        }
        surprise.share()
    }

    #[test]
    fn late_jobs_that_were_foreseen_are_no_surprise() {
        assert!(after(0.9, 1.0) < 1e-3);
        assert!(after(0.5, 1.0) < 1e-3, "better than predicted is not worse");
        let surprised = after(1.0, 1.0);
        assert!((surprised - 0.1).abs() < 0.01, "{surprised}");
    }

    #[test]
    fn what_was_not_predicted_says_nothing() {
        let mut surprise = Surprise::default();
        surprise.observe(Record { started: 10.0, late: 10.0 }, 1, Duration::from_mins(5));
        assert!(surprise.share() <= 0.0);
        surprise.predict(f64::NAN);
        surprise.observe(Record { started: 10.0, late: 10.0 }, 1, Duration::from_mins(5));
        assert!(surprise.share() <= 0.0);
    }
}
