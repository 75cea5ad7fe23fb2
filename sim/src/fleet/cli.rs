//! The commands that run the autoscaler in recorded traces, and what they print.

use std::error::Error;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::run::RunArgs;
use super::{bench, cases, speed, synthetic};
use crate::verdict::Verdict;

/// Simulates scaling policies on recorded traces.
#[derive(Debug, Clone, Args)]
pub struct FleetArgs {
    #[command(subcommand)]
    command: FleetCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum FleetCommand {
    /// Say whether every trace is there and readable
    Traces {
        folder: PathBuf,
    },
    /// Compare the simulator with another one's numbers
    CrossCheck {
        folder: PathBuf,
    },
    /// Run every policy on every trace, and write tables and plots
    Bench {
        folder: PathBuf,
        output: PathBuf,
    },
    /// Run the part of the benchmark with recorded spot capacity, and print it
    Spot {
        folder: PathBuf,
    },
    /// Print the generated trace of spot capacity that the tests use
    SyntheticSpot,
    /// Time plans for a large fleet
    Speed,
    Run(RunArgs),
}

impl FleetArgs {
    pub fn run(&self) -> Verdict {
        let result = match &self.command {
            FleetCommand::Traces { folder } => cases::check(folder),
            FleetCommand::CrossCheck { folder } => bench::cross_check(folder),
            FleetCommand::Bench { folder, output } => bench::write(folder, output),
            FleetCommand::Spot { folder } => bench::spot(folder),
            FleetCommand::SyntheticSpot => Ok(synthetic::capacities(3, &synthetic::ZONES)),
            FleetCommand::Speed => Ok(speed::report()),
            FleetCommand::Run(arguments) => arguments.run(),
        };
        match result {
            Ok(text) => Verdict { text: text.trim_end().to_owned() + "\n", is_well: true },
            Err(error) => Verdict { text: explain(error.as_ref()), is_well: false },
        }
    }
}

fn explain(error: &dyn Error) -> String {
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}\n")
}
