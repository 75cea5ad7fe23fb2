//! The coordinator's process: reads settings, starts telemetry, runs the library.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use stoker_coordinator::check::Report;
use stoker_coordinator::config::{Settings, StoreChoice};
use stoker_coordinator::run::run;
use stoker_coordinator::store::postgres;
use stoker_runtime::clock::{Clock as _, SystemClock};
use stoker_runtime::config::layered;
use stoker_runtime::error::chain;
use stoker_runtime::signals::{shutdown_on_signals, shutdown_on_stdin_eof};
use stoker_runtime::tasks::Tasks;
use stoker_runtime::{metrics as exporter, telemetry};
use tokio_util::sync::CancellationToken;

/// Accepts jobs, keeps them, and hands them to workers.
#[derive(Debug, Parser)]
#[command(name = "stoker-coordinator", version)]
struct Cli {
    /// Settings in TOML; flags and environment go before them
    #[arg(long, env = "STOKER_COORDINATOR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Show the settings that result, and exit
    #[arg(long)]
    print_config: bool,

    /// End when standard input does: nothing outlives the process that holds its other end
    #[arg(long, hide = true)]
    exit_on_stdin_eof: bool,

    #[command(flatten)]
    settings: Settings,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Copy all jobs from the directory of --data into the empty Postgres of --store, and exit
    CopyStore,
    /// Say whether the settings can be used and what of them does not last, such as certificates; exit with 1 if workers
    /// would be refused for that
    Check,
}

/// How long the last tasks of the process may take to end.
const END_LIMIT: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    match start(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Telemetry may not be running yet, and a person may be waiting.
            let _ = writeln!(std::io::stderr(), "stoker-coordinator: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn start(cli: Cli) -> Result<(), Box<dyn Error>> {
    let settings = layered(cli.config.as_deref(), cli.settings)?.with_defaults();
    if cli.print_config {
        std::io::stdout().write_all(settings.shown()?.as_bytes())?;
        return Ok(());
    }
    match cli.command {
        None => {}
        Some(Command::CopyStore) => return copy_store(settings).await,
        Some(Command::Check) => return check(settings),
    }
    let guard = telemetry::init("stoker-coordinator", &settings.telemetry)?;
    let config = settings.check()?;
    let metrics = exporter::install()?;
    stoker_broker::metrics::describe();
    stoker_coordinator::metrics::describe();
    let tasks = Tasks::new(CancellationToken::new());
    shutdown_on_signals(&tasks)?;
    if cli.exit_on_stdin_eof {
        shutdown_on_stdin_eof(&tasks)?;
    }
    let ended = run(config, metrics, &tasks).await;
    if let Err(left) = tasks.close_and_wait(END_LIMIT).await {
        tracing::warn!(?left, "tasks did not end in time");
    }
    guard.shutdown().await;
    ended?;
    match tasks.failure() {
        Some(failure) => Err(failure.into()),
        None => Ok(()),
    }
}

fn check(settings: Settings) -> Result<(), Box<dyn Error>> {
    let report = Report::of(&settings.check()?, SystemClock::new().now());
    write!(std::io::stdout(), "{report}")?;
    if report.good { Ok(()) } else { Err("some certificates are not good; see above".into()) }
}

async fn copy_store(settings: Settings) -> Result<(), Box<dyn Error>> {
    let data = settings.data.clone().unwrap_or_default();
    let StoreChoice::Postgres(url) = settings.store()? else {
        return Err("name the Postgres to copy to with --store or STOKER_STORE".into());
    };
    let copied = postgres::copy(&data, url).await?;
    writeln!(
        std::io::stdout(),
        "copied {} jobs and {} parts of results; start the coordinators with the same --store",
        copied.jobs,
        copied.results
    )?;
    Ok(())
}
