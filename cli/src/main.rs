//! The `stoker` command: what users and operators type, and a whole fleet on one machine.
//!
//! Data go to standard output, everything else to standard error. Nothing here decides about jobs:
//! that is the coordinator's, which this command talks to over gRPC like any other client.

mod args;
mod client;
mod commands;
mod confirmation;
mod context;
mod dashboard;
mod demo;
mod dev;
mod diagnosis;
mod exit;
mod explanation;
mod failure;
mod fleet_file;
mod input;
mod journal;
mod output;
mod planning;
mod reading;
mod render;
mod simulation;
mod spec;
mod submission;
mod terminal;
mod waiting;

use std::process::ExitCode;

use clap::Parser;
use stoker_runtime::error::chain;
use stoker_runtime::telemetry::{self, TelemetrySettings};

use args::Cli;
use context::Context;
use exit::Exit;
use failure::Failure;
use terminal::{Color, Terminal};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return print_usage(&error),
    };
    let exit = match run(cli) {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            failure.report();
            failure.exit()
        }
    };
    exit.into()
}

/// Help and version are data, the rest is an error; clap knows which goes where.
fn print_usage(error: &clap::Error) -> ExitCode {
    // A reader that has gone away is no reason to complain.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let result = runtime.block_on(run_command(cli));
    // A read of standard input cannot be cancelled; whoever interrupts us need not press Enter too.
    runtime.shutdown_background();
    result
}

async fn run_command(cli: Cli) -> Result<(), Failure> {
    let settings = TelemetrySettings {
        log: Some(cli.global.log.clone()),
        log_format: None,
        otlp_endpoint: cli.global.otlp_endpoint.clone(),
    };
    let telemetry =
        telemetry::init("stoker", &settings).map_err(|error| Failure::usage(chain(&error)))?;
    let forbidden = cli.global.no_color.as_deref().is_some_and(|value| !value.is_empty());
    let color = if forbidden { Color::Forbidden } else { Color::Allowed };
    let mut context = Context::new(&cli.global, Terminal::new(cli.global.output, color))?;
    let result = Box::pin(commands::run(cli.command, &mut context)).await;
    let flushed = context.terminal.finish();
    context.end().await;
    telemetry.shutdown().await;
    result.and(flushed)
}
