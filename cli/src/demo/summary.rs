//! What happened, in numbers. Pure.

use std::time::Duration;

use serde::Serialize;
use stoker_core::time::Timestamp;
use stoker_proto::v1;

use super::neighbors::Neighbor;
use super::victim::Victim;
use crate::render::job::wait;
use crate::render::table::pairs;
use crate::render::text::{grouped, shorten};
use crate::render::time::{from_wire, span};

/// Longest piece of a sentence that is shown.
const MAX_SHOWN: usize = 120;

/// The numbers of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    jobs: u64,
    jobs_succeeded: u64,
    items: u64,
    dimensions: u64,
    /// Attempts beyond the first.
    repeated_attempts: u64,
    /// Releases to the queue beyond the first.
    redeliveries: u64,
    /// Attempts that ended because their worker was gone.
    lost_attempts: u64,
    workers_killed: u64,
    wait_p50_seconds: f64,
    wait_p95_seconds: f64,
    wait_p99_seconds: f64,
    /// From the first acceptance to the last end.
    seconds: f64,
    items_per_second: f64,
}

impl Summary {
    pub(crate) fn new(jobs: &[v1::Job], dimensions: u64, victims: &[Victim]) -> Self {
        let waits = waits(jobs);
        let seconds = elapsed(jobs).as_secs_f64();
        let items: u64 = jobs.iter().map(|job| u64::from(job.items_done)).sum();
        let beyond_first = |number: fn(&v1::Job) -> u32| {
            jobs.iter().map(|job| u64::from(number(job).saturating_sub(1))).sum()
        };
        let succeeded = jobs.iter().filter(|job| job.state == v1::JobState::Succeeded as i32);
        Self {
            jobs: jobs.len() as u64,
            jobs_succeeded: succeeded.count() as u64,
            items,
            dimensions,
            repeated_attempts: beyond_first(|job| job.attempts),
            redeliveries: beyond_first(|job| job.dispatches),
            lost_attempts: jobs.iter().map(|job| u64::from(job.lost_workers)).sum(),
            workers_killed: victims.len() as u64,
            wait_p50_seconds: percentile(&waits, 50),
            wait_p95_seconds: percentile(&waits, 95),
            wait_p99_seconds: percentile(&waits, 99),
            seconds,
            items_per_second: if seconds > 0.0 { count_as_f64(items) / seconds } else { 0.0 },
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let time = |seconds| span(Duration::from_secs_f64(seconds));
        pairs([
            ("jobs", format!("{} submitted, {} succeeded", self.jobs, self.jobs_succeeded)),
            ("items", format!("{}, each a vector of {}", grouped(self.items), self.dimensions)),
            ("workers killed", self.workers_killed.to_string()),
            (
                "attempts",
                format!(
                    "{} beyond the first, {} of them after a lost worker",
                    self.repeated_attempts, self.lost_attempts
                ),
            ),
            ("redeliveries", self.redeliveries.to_string()),
            (
                "wait",
                format!(
                    "p50 {}, p95 {}, p99 {}",
                    time(self.wait_p50_seconds),
                    time(self.wait_p95_seconds),
                    time(self.wait_p99_seconds)
                ),
            ),
            ("time", time(self.seconds)),
            ("throughput", format!("{:.0} items/s", self.items_per_second)),
        ])
    }
}

/// A query with what is near to it, for people.
pub(crate) fn neighbors(query: &str, found: &[Neighbor<'_>]) -> String {
    use std::fmt::Write as _;
    let mut text = format!("\n{query}\n");
    for neighbor in found {
        writeln!(text, "  {:.3}  {}", neighbor.cosine, shorten(neighbor.text, MAX_SHOWN))
            .expect("a string takes any text");
    }
    text
}

fn elapsed(jobs: &[v1::Job]) -> Duration {
    let first = jobs.iter().filter_map(|job| from_wire(job.accepted_at.as_ref())).min();
    let last = jobs.iter().filter_map(|job| from_wire(job.finished_at.as_ref())).max();
    first.zip(last).map_or(Duration::ZERO, |(first, last): (Timestamp, _)| last.since(first))
}

/// Of all that have started, in seconds, the shortest first.
pub(super) fn waits(jobs: &[v1::Job]) -> Vec<f64> {
    let mut waits: Vec<f64> = jobs.iter().filter_map(wait).map(|wait| wait.as_secs_f64()).collect();
    waits.sort_by(f64::total_cmp);
    waits
}

/// Nearest rank; 0 of nothing.
pub(super) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
const fn count_as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::time::to_wire;

    #[test]
    fn percentiles_are_of_nearest_rank() {
        let sorted: Vec<f64> = (1..=12).map(f64::from).collect();
        let shown = [50, 95, 99].map(|percent| percentile(&sorted, percent).to_string());
        assert_eq!(shown, ["6", "12", "12"]);
        assert!(percentile(&[], 99).abs() < f64::EPSILON);
    }

    #[test]
    fn the_table_counts_what_happened() {
        let at = |millis| Some(to_wire(Timestamp::from_unix_millis(millis)));
        let job = |started, finished, attempts| v1::Job {
            state: v1::JobState::Succeeded as i32,
            items_total: 500,
            items_done: 500,
            attempts,
            dispatches: attempts,
            lost_workers: attempts - 1,
            accepted_at: at(0),
            started_at: at(started),
            finished_at: at(finished),
            ..v1::Job::default()
        };
        let victim = Victim {
            name: "worker-2".into(),
            pid: 7,
            jobs: vec!["b".into()],
            items_done: 0,
            items_total: 500,
        };
        let summary = Summary::new(&[job(100, 4_000, 1), job(200, 10_000, 2)], 384, &[victim]);
        assert_eq!(
            summary.table(),
            "jobs:            2 submitted, 2 succeeded\n\
             items:           1,000, each a vector of 384\n\
             workers killed:  1\n\
             attempts:        1 beyond the first, 1 of them after a lost worker\n\
             redeliveries:    1\n\
             wait:            p50 100ms, p95 200ms, p99 200ms\n\
             time:            10s\n\
             throughput:      100 items/s\n"
        );
    }

    #[test]
    fn neighbors_are_listed_below_their_query() {
        let found = [Neighbor { text: "near", cosine: 0.912_34 }];
        assert_eq!(neighbors("query", &found), "\nquery\n  0.912  near\n");
    }
}
