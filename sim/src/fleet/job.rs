//! What is to be done: jobs in order of arrival, and the classes that they belong to.

/// Milliseconds since the start of a simulation.
pub type Millis = i64;

/// Milliseconds in an hour.
pub const HOUR_MS: Millis = 3_600_000;

/// One job of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    pub at: Millis,
    /// How long it runs alone on a worker of speed 1.
    pub service: Millis,
    /// Index into the classes of the workload.
    pub class: usize,
    /// Index into the models of the workload.
    pub model: usize,
}

/// A latency class: how long its jobs may wait, and how many of them must not wait longer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Class {
    pub max_wait: Millis,
    pub objective: f64,
}

/// Jobs in order of arrival over a span of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    pub name: String,
    /// Names of the models whose jobs they are; one unless it is said.
    pub models: Vec<String>,
    /// Sorted by arrival.
    pub jobs: Vec<Job>,
    /// End of the simulation; no job arrives at it or later.
    pub end: Millis,
}

impl Workload {
    /// Puts the jobs into order and drops those outside `[0, end)`.
    pub fn new(name: impl Into<String>, mut jobs: Vec<Job>, end: Millis) -> Self {
        jobs.retain(|job| (0..end).contains(&job.at));
        jobs.sort_by_key(|job| job.at);
        Self { name: name.into(), models: vec!["model".to_owned()], jobs, end }
    }

    /// The jobs, until the last of them would be done if none had to wait. One that is said to run for longer than a day
    /// does not make the workload longer than that.
    pub fn covering(name: impl Into<String>, jobs: Vec<Job>) -> Self {
        let done = |job: &Job| job.at.saturating_add(job.service.clamp(1, 24 * HOUR_MS));
        let end = jobs.iter().map(done).max().unwrap_or(0);
        Self::new(name, jobs, end)
    }

    /// The same, and for so long after it nothing arrives: time for what waits at its end.
    #[must_use]
    pub fn and_then_nothing_for(mut self, time: Millis) -> Self {
        self.end = self.end.saturating_add(time);
        self
    }

    /// The same until the end of the day in which its last job arrives, so that copies of it can be shifted by days.
    #[must_use]
    pub fn in_whole_days(mut self) -> Self {
        const DAY: Millis = 24 * HOUR_MS;
        let last = self.jobs.last().map_or(0, |job| job.at);
        self.end = (last / DAY).saturating_add(1).saturating_mul(DAY);
        self
    }

    /// The same with names for its models, in the order of the jobs' indices. There is one at least.
    #[must_use]
    pub fn of_models(mut self, models: Vec<String>) -> Self {
        if !models.is_empty() {
            self.models = models;
        }
        self
    }

    /// Mean service time in seconds; 1 for a workload without jobs.
    pub fn mean_service(&self) -> f64 {
        if self.jobs.is_empty() {
            return 1.0;
        }
        let total: Millis = self.jobs.iter().map(|job| job.service).sum();
        seconds(total) / count(self.jobs.len())
    }

    /// The part of the workload in `[from, to)`, starting anew at 0.
    #[must_use]
    pub fn part(&self, from: Millis, to: Millis) -> Self {
        let jobs = self.jobs.iter().filter(|job| (from..to).contains(&job.at));
        let jobs = jobs.map(|job| Job { at: job.at - from, ..*job }).collect();
        Self::new(self.name.clone(), jobs, to.min(self.end) - from).of_models(self.models.clone())
    }

    /// `copies` of the workload, each `days` later than the one before and wrapped around its end.
    #[must_use]
    pub fn day_shifted(&self, copies: i64, days: i64) -> Self {
        let by = days * 24 * HOUR_MS;
        let shift = |copy: i64, job: &Job| (job.at + copy * by).rem_euclid(self.end.max(1));
        let jobs = (0..copies)
            .flat_map(|copy| self.jobs.iter().map(move |job| Job { at: shift(copy, job), ..*job }));
        Self::new(format!("{} x{copies}", self.name), jobs.collect(), self.end)
            .of_models(self.models.clone())
    }
}

/// Milliseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "simulated times are far below 2^52 ms")]
pub fn seconds(millis: Millis) -> f64 {
    millis as f64 / 1e3
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn count(n: usize) -> f64 {
    n as f64
}

/// Seconds as milliseconds, rounded; absurd values become 0 or the largest time.
#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and NaN becomes 0")]
pub fn millis(seconds: f64) -> Millis {
    (seconds * 1e3).round() as Millis
}

/// A number rounded up to a whole, at least 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and NaN becomes 0"
)]
pub fn whole(x: f64) -> usize {
    x.ceil().max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(at: Millis, service: Millis) -> Job {
        Job { at, service, class: 0, model: 0 }
    }

    #[test]
    fn a_workload_covers_what_its_jobs_run_and_no_day_more() {
        const DAY: Millis = 24 * HOUR_MS;
        let covering = |jobs: &[Job]| Workload::covering("jobs", jobs.to_vec());
        let second_day = covering(&[job(0, 5_000), job(DAY + 1_000, 2_000)]);
        assert_eq!((second_day.jobs.len(), second_day.end), (2, DAY + 3_000));
        assert_eq!(second_day.clone().in_whole_days().end, 2 * DAY);
        assert_eq!(second_day.and_then_nothing_for(HOUR_MS).end, DAY + HOUR_MS + 3_000);
        assert_eq!(covering(&[job(9_000, 1_000), job(0, 60_000)]).end, 60_000, "the longest");
        assert_eq!(covering(&[job(7, 0)]).jobs.len(), 1);
        assert_eq!(covering(&[job(0, Millis::MAX)]).end, DAY);
        assert_eq!(covering(&[]).end, 0);
    }
}
