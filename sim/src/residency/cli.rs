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
            let budget_bytes = self.budget.saturating_mul(1_000_000);
            let setup =
                Setup { skew: self.skew, budget_bytes, ..Setup::fifty(work, time, self.seed) };
            text.push_str(&Comparison::run(setup).rows());
        }
        Verdict { text, is_well: true }
    }
}
