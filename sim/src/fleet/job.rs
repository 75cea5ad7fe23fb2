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
