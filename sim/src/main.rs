//! `stoker-sim`: runs simulations and prints what they show.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use stoker_sim::fleet::cli::FleetArgs;
use stoker_sim::machines::cli::MachinesArgs;
use stoker_sim::protocol::cli::{ProtocolArgs, SabotageArgs};
use stoker_sim::residency::cli::ResidencyArgs;

/// Simulations of Stoker's rules.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Fleet(FleetArgs),
    Machines(MachinesArgs),
    Protocol(ProtocolArgs),
    Residency(ResidencyArgs),
    Sabotage(SabotageArgs),
}

fn main() -> ExitCode {
    let verdict = match Arguments::parse().command {
        Command::Fleet(arguments) => arguments.run(),
        Command::Machines(arguments) => arguments.run(),
        Command::Protocol(arguments) => arguments.run(),
        Command::Residency(arguments) => arguments.run(),
        Command::Sabotage(arguments) => arguments.run(),
    };
    // Whoever closed the pipe wants no more.
    let _ = std::io::stdout().lock().write_all(verdict.text.as_bytes());
    if verdict.is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
