//! The command that compares policies of residency, and what it prints.

use std::time::Duration;

use clap::Args;

use super::load::Setup;
use super::outcome::Comparison;
use crate::verdict::Verdict;

/// Simulates 50 models on a device that has the memory for a dozen, with plain LRU and with Stoker's rule.
#[derive(Debug, Clone, Args)]
pub struct ResidencyArgs {
    /// Virtual hours in which jobs come
    #[arg(long, default_value_t = 4)]
    hours: u64,
    /// Percents of the device's time that the jobs need, loads aside
    #[arg(long, value_delimiter = ',', default_value = "2,5,10,20,40,60")]
    work: Vec<u32>,
    /// Exponent of Zipf's law, by which jobs are spread over models
    #[arg(long, default_value_t = 1.0)]
    skew: f64,
    /// Memory for models, in MB
    #[arg(long, default_value_t = 4_000)]
    budget: u64,
    /// Memory of the smallest model, in MB
    #[arg(long, default_value_t = 80)]
    least: u64,
    /// Memory of the largest model, in MB
    #[arg(long, default_value_t = 600)]
    most: u64,
    /// Start and warm-up of an engine, in milliseconds; reading takes one more for each MB
    #[arg(long, default_value_t = 300)]
    start: u64,
    /// What a job takes on average, in milliseconds
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    service: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl ResidencyArgs {
    /// Runs what was asked for.
    pub fn run(&self) -> Verdict {
        let mut text = Comparison::head();
        for percent in &self.work {
            let time = Duration::from_hours(self.hours);
            let work = f64::from(*percent) / 100.0;
            let bytes = |megabytes: u64| megabytes.saturating_mul(1_000_000);
            let setup = Setup {
                skew: self.skew,
                budget_bytes: bytes(self.budget),
                need_bytes: (bytes(self.least), bytes(self.most.max(self.least))),
                start: Duration::from_millis(self.start),
                service: Duration::from_millis(self.service),
                ..Setup::fifty(work, time, self.seed)
            };
            text.push_str(&Comparison::run(setup).rows());
        }
        Verdict { text, is_well: true }
    }
}
