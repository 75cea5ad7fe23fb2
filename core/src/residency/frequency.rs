//! How often a model is needed, of late.

use std::time::Duration;

use crate::time::Timestamp;

/// What happened so long ago counts for a third of what happens now.
const MEMORY: Duration = Duration::from_mins(10);

/// Counts jobs, and forgets them by and by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frequency {
    began_at: Timestamp,
    counted_at: Timestamp,
    /// Jobs, each for what it still counts.
    weight: f64,
}

impl Frequency {
    /// Nothing has been counted yet.
    pub const fn new(now: Timestamp) -> Self {
        Self { began_at: now, counted_at: now, weight: 0.0 }
    }

    /// So many jobs came.
    pub fn count(&mut self, jobs: u64, now: Timestamp) {
        #[expect(clippy::cast_precision_loss, reason = "a number of jobs in memory")]
        let jobs = jobs as f64;
        self.weight = self.weight * left_after(now.since(self.counted_at)) + jobs;
        self.counted_at = self.counted_at.max(now);
    }

    /// Time from one job to the next; `None` while there was none.
    pub fn every(&self, now: Timestamp) -> Option<Duration> {
        let weight = self.weight * left_after(now.since(self.counted_at));
        // What a steady stream of one job a second would weigh by now.
        let seen = MEMORY.as_secs_f64() * (1.0 - left_after(now.since(self.began_at)));
        let seconds = seen / weight;
        (weight > 0.0 && seconds.is_finite())
            .then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

fn left_after(time: Duration) -> f64 {
    (-time.as_secs_f64() / MEMORY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_millis(seconds * 1_000)
    }

    #[test]
    fn a_steady_stream_is_told_as_it_is_early_and_late() {
        for last in [60, 600, 6_000] {
            let mut frequency = Frequency::new(at(0));
            for second in (5..=last).step_by(5) {
                frequency.count(1, at(second));
            }
            let every = frequency.every(at(last)).unwrap().as_secs_f64();
            assert!((every - 5.0).abs() < 0.3, "{every} s after {last} s");
        }
    }

    #[test]
    fn what_has_stopped_is_told_ever_more_rarely() {
        let mut frequency = Frequency::new(at(0));
        assert_eq!(frequency.every(at(9)), None);
        frequency.count(10, at(100));
        let (soon, later) =
            (frequency.every(at(110)).unwrap(), frequency.every(at(4_000)).unwrap());
        assert!(
            soon < Duration::from_secs(12) && later > Duration::from_hours(1),
            "{soon:?} {later:?}"
        );
        // A clock that goes back is no reason to forget more.
        frequency.count(1, at(50));
        assert!(frequency.every(at(100)).unwrap() < soon);
    }

    #[test]
    fn absurd_times_are_taken() {
        let mut frequency = Frequency::new(Timestamp::MAX);
        frequency.count(u64::MAX, Timestamp::from_unix_millis(i64::MIN));
        assert!(
            frequency.every(Timestamp::from_unix_millis(i64::MIN)).is_some_and(|e| e.is_zero())
        );
    }
}
