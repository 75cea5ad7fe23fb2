//! How long jobs run, measured: mean and spread on a worker of speed 1.

use serde::{Deserialize, Serialize};

/// Running sums of service times, in seconds on a worker of speed 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Service {
    jobs: f64,
    seconds: f64,
    squares: f64,
}

/// Jobs after which older ones fade.
const MEMORY: f64 = 20_000.0;
/// The guess with which an unmeasured pool starts, which counts as this many jobs.
const FIRST: (f64, f64) = (2.0, 5.0);

impl Default for Service {
    fn default() -> Self {
        let (jobs, mean) = FIRST;
        Self { jobs, seconds: jobs * mean, squares: 2.0 * jobs * mean * mean }
    }
}

impl Service {
    /// What to expect of jobs that are like these, until they are measured: it counts as few.
    pub(crate) fn first(&self) -> Self {
        let ((jobs, _), mean) = (FIRST, self.mean());
        Self { jobs, seconds: jobs * mean, squares: jobs * mean * mean * (1.0 + self.scv()) }
    }

    /// Takes in the totals of `jobs` that finished. What is not plausible is left out.
    pub(crate) fn observe(&mut self, jobs: f64, seconds: f64, squares: f64) {
        let plausible = [jobs, seconds, squares].iter().all(|x| x.is_finite() && *x >= 0.0);
        if !plausible || jobs == 0.0 {
            return;
        }
        let keep = (MEMORY / (self.jobs + jobs)).min(1.0);
        self.jobs = (self.jobs + jobs) * keep;
        self.seconds = (self.seconds + seconds) * keep;
        // The mean of squares is never below the square of the mean.
        self.squares = (self.squares + squares.max(seconds * seconds / jobs)) * keep;
    }

    /// Mean in seconds, at least a millisecond.
    pub(crate) fn mean(&self) -> f64 {
        (self.seconds / self.jobs).max(1e-3)
    }

    /// Variance over squared mean: 0 for jobs that are all alike, large for heavy tails.
    pub(crate) fn scv(&self) -> f64 {
        let mean = self.mean();
        (self.squares / self.jobs / (mean * mean) - 1.0).clamp(0.0, 16.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_measured_and_the_first_guess_fades() {
        let mut service = Service::default();
        for _ in 0..1000 {
            service.observe(10.0, 50.0, 250.0);
        }
        assert!((service.mean() - 5.0).abs() < 0.1, "{service:?}");
        assert!(service.scv() < 0.1, "{service:?}");
    }

    #[test]
    fn absurd_totals_are_left_out() {
        let mut service = Service::default();
        for absurd in [(f64::NAN, 1.0, 1.0), (1.0, f64::INFINITY, 1.0), (-1.0, 1.0, 1.0)] {
            service.observe(absurd.0, absurd.1, absurd.2);
        }
        assert_eq!(service, Service::default());
    }
}
