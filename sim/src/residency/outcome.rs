//! What a simulated device did, and how that compares.

use std::fmt::Write as _;
use std::time::Duration;

use stoker_core::residency;
use stoker_core::time::Timestamp;

use super::load::{Load, Setup};
use super::world::{Policy, run};

/// What came of one policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub policy: &'static str,
    pub jobs: usize,
    pub loads: u64,
    /// Time of the device that loads took.
    pub loading: Duration,
    /// Time of the device that jobs took.
    pub computing: Duration,
    /// Until the last job was done.
    pub took: Duration,
    /// Jobs that started within their class's longest wait.
    pub in_time: usize,
    /// How long each job that started waited, and how long it was to wait at most; sorted once it is over.
    waits: Vec<(Duration, Duration)>,
}

impl Outcome {
    pub(super) const fn new(policy: &'static str, jobs: usize) -> Self {
        Self {
            policy,
            jobs,
            loads: 0,
            loading: Duration::ZERO,
            computing: Duration::ZERO,
            took: Duration::ZERO,
            in_time: 0,
            waits: Vec::new(),
        }
    }

    pub(super) fn loaded(&mut self, took: Duration) {
        self.loads += 1;
        self.loading += took;
    }

    pub(super) fn started(&mut self, waited: Duration, longest: Duration, service: Duration) {
        self.computing += service;
        self.in_time += usize::from(waited <= longest);
        self.waits.push((waited, longest));
    }

    pub(super) fn ended(&mut self, now: Timestamp) {
        self.took = now.since(Timestamp::from_unix_millis(0));
        self.waits.sort_unstable();
    }

    /// The wait that this part of the jobs did not exceed; `None`: so many never started.
    pub fn wait(&self, part: f64) -> Option<Duration> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank among as many jobs as fit into memory"
        )]
        let rank = (self.jobs as f64 * part).ceil() as usize;
        self.waits.get(rank.max(1) - 1).map(|(waited, _)| *waited)
    }

    /// The wait that 99 of 100 jobs of the class with this longest wait did not exceed, of those that started.
    pub fn wait_of(&self, longest: Duration) -> Option<Duration> {
        let of_class: Vec<Duration> =
            self.waits.iter().filter(|(_, of)| *of == longest).map(|(waited, _)| *waited).collect();
        of_class.get((of_class.len() * 99).div_ceil(100).max(1) - 1).copied()
    }

    /// Part of the device's time that loads took.
    pub fn lost(&self) -> f64 {
        ratio(self.loading, self.took)
    }

    /// Part of the jobs that started in time.
    #[expect(clippy::cast_precision_loss, reason = "numbers of jobs in memory")]
    pub fn attainment(&self) -> f64 {
        if self.jobs == 0 { 1.0 } else { self.in_time as f64 / self.jobs as f64 }
    }
}

fn ratio(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}

/// All policies on the same jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    pub setup: Setup,
    pub outcomes: Vec<Outcome>,
}

impl Comparison {
    /// Runs them.
    pub fn run(setup: Setup) -> Self {
        let load = Load::draw(&setup);
        let rule = Policy::Rule(residency::Policy::default());
        let policies = [Policy::Lru, Policy::LruHereFirst, rule];
        let outcomes = policies.map(|policy| run(&load, setup.budget_bytes, policy)).into();
        Self { setup, outcomes }
    }

    /// The head of [`Comparison::rows`]. `p99 first` is that of the class that may wait least.
    pub fn head() -> String {
        format!(
            "{:>5}  {:<16}{:>8}{:>8}{:>10}{:>10}{:>11}{:>11}{:>9}\n",
            "work", "policy", "jobs", "loads", "in loads", "p50", "p99", "p99 first", "in time"
        )
    }

    /// A line for each policy.
    pub fn rows(&self) -> String {
        let mut text = String::new();
        let first = self.setup.waits.iter().min().copied();
        for outcome in &self.outcomes {
            let _ = writeln!(
                text,
                "{:>4.0}%  {:<16}{:>8}{:>8}{:>9.1}%{:>10}{:>11}{:>11}{:>8.2}%",
                self.setup.work * 100.0,
                outcome.policy,
                outcome.jobs,
                outcome.loads,
                outcome.lost() * 100.0,
                wait(outcome.wait(0.5)),
                wait(outcome.wait(0.99)),
                wait(first.and_then(|longest| outcome.wait_of(longest))),
                outcome.attainment() * 100.0,
            );
        }
        text
    }
}

fn wait(wait: Option<Duration>) -> String {
    wait.map_or_else(|| "never".to_owned(), |wait| format!("{:.2} s", wait.as_secs_f64()))
}
