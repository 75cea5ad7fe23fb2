//! The autoscaler's process: reads settings, starts telemetry, runs the library.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use stoker_autoscaler::config::{Config, Settings};
use stoker_autoscaler::coordinator::Coordinator;
use stoker_autoscaler::operator::{self, Checked, Left};
use stoker_autoscaler::provider::Opened;
use stoker_autoscaler::run::run;
use stoker_core::fleet::{Policy, Provider};
use stoker_core::units::HumanDuration;
use stoker_proto::client::AddressError;
use stoker_runtime::clock::{Clock, SystemClock};
use stoker_runtime::config::layered;
use stoker_runtime::error::chain;
use stoker_runtime::signals::{shutdown_on_signals, shutdown_on_stdin_eof};
use stoker_runtime::tasks::Tasks;
use stoker_runtime::{metrics as exporter, telemetry};
use tokio_util::sync::CancellationToken;

/// With the clouds that this build can buy from.
const VERSION: &str = if cfg!(feature = "ec2") {
    concat!(env!("CARGO_PKG_VERSION"), " (clouds: local, ec2)")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (clouds: local)")
};

/// Buys, drains and ends machines, so that jobs wait no longer than their class allows, at the least
/// cost.
#[derive(Debug, Parser)]
#[command(name = "stoker-autoscaler", version = VERSION)]
struct Cli {
    /// Settings in TOML; flags and environment go before them
    #[arg(long, env = "STOKER_AUTOSCALER_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// End when standard input does: nothing outlives the process that holds its other end
    #[arg(long, hide = true)]
    exit_on_stdin_eof: bool,

    #[command(flatten)]
    settings: Settings,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask the coordinator and the cloud whether everything is set up, and exit
    Check,
    /// End every machine of the fleet, with nothing but the cloud's credentials, and exit
    ///
    /// The coordinator's switch is set to `panic` first, if it can be reached, so that nothing is
    /// bought again; `stoker fleet run` sets it back.
    Panic(PanicArgs),
}

#[derive(Debug, clap::Args)]
struct PanicArgs {
    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// How long to try; it takes five minutes without a machine to be sure that none is left
    #[arg(long, value_name = "TIME", default_value = "20m")]
    within: HumanDuration,
}

/// How long the last tasks of the process may take to end.
const END_LIMIT: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(start(Cli::parse())).await {
        Ok(code) => code,
        Err(error) => {
            // Telemetry may not be running yet, and a person may be waiting.
            let _ = writeln!(std::io::stderr(), "stoker-autoscaler: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn start(cli: Cli) -> Result<ExitCode, Box<dyn Error>> {
    let settings = layered(cli.config.as_deref(), cli.settings)?;
    match cli.command {
        Some(Command::Check) => return check(&settings.check()?).await,
        Some(Command::Panic(args)) => return panic(&settings.check()?, &args).await,
        None => {}
    }
    let guard = telemetry::init("stoker-autoscaler", &settings.telemetry)?;
    let config = settings.check()?;
    let metrics = exporter::install()?;
    stoker_autoscaler::metrics::describe();
    let tasks = Tasks::new(CancellationToken::new());
    shutdown_on_signals(&tasks)?;
    if cli.exit_on_stdin_eof {
        shutdown_on_stdin_eof(&tasks)?;
    }
    let ended = run(config, metrics, &tasks).await;
    tasks.shutdown_token().cancel();
    if let Err(left) = tasks.close_and_wait(END_LIMIT).await {
        tracing::warn!(?left, "tasks did not end in time");
    }
    guard.shutdown().await;
    ended?;
    match tasks.failure() {
        Some(failure) => Err(failure.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// A local fleet's machines belong to the process that started them.
fn is_local(config: &Config) -> bool {
    matches!(config.fleet.provider, Some(Provider::Local(_)))
}

async fn open(config: &Config, tasks: &Tasks) -> Result<Opened, Box<dyn Error>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Ok(Opened::open(config, &clock, tasks).await?)
}

fn coordinator(config: &Config) -> Result<Coordinator, AddressError> {
    Coordinator::new(&config.coordinator, config.token.as_ref())
}

async fn check(config: &Config) -> Result<ExitCode, Box<dyn Error>> {
    let mut out = std::io::stdout();
    let mut problems = Vec::new();
    let fleet = &config.fleet.name;
    match coordinator(config)?.admits(fleet).await {
        Ok(()) => writeln!(out, "coordinator: {}, fleet {fleet}", config.coordinator)?,
        Err(error) => problems.push(error.to_string()),
    }
    let policy = Policy::of(&config.fleet);
    if policy.pools.is_empty() {
        let message = "no pool has offerings, so there is nothing to buy: add \
                       [[pools.NAME.offerings]] with instance-type, zone and price";
        problems.push(message.to_owned());
    }
    if is_local(config) {
        writeln!(out, "cloud: this machine")?;
    } else {
        let tasks = Tasks::new(CancellationToken::new());
        let opened = open(config, &tasks).await?;
        let Checked { said, problems: found } = operator::check(&*opened.cloud, &policy).await;
        for sentence in said {
            writeln!(out, "cloud: {sentence}")?;
        }
        problems.extend(found);
    }
    for problem in &problems {
        writeln!(out, "problem: {problem}")?;
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn panic(config: &Config, args: &PanicArgs) -> Result<ExitCode, Box<dyn Error>> {
    if is_local(config) {
        return Err("machines of this machine belong to the autoscaler that started them: use \
                    `stoker fleet panic`, or end that process"
            .into());
    }
    let fleet = &config.fleet.name;
    if !args.yes && !confirmed(&format!("End every machine of the fleet {fleet}?"))? {
        return Err("nothing was done".into());
    }
    let mut out = std::io::stdout();
    match coordinator(config)?.panic("stoker-autoscaler", "panic").await {
        Ok(()) => writeln!(out, "the switch is at panic: nothing is bought")?,
        Err(error) => writeln!(
            out,
            "the switch could not be set, so a running autoscaler may buy again: stop it ({error})"
        )?,
    }
    let tasks = Tasks::new(CancellationToken::new());
    let opened = open(config, &tasks).await?;
    let times = (operator::SETTLED, args.within.get());
    let mut settled = false;
    let left = operator::panic(&*opened.cloud, times, |left| {
        if left.settles && !settled {
            let _ = writeln!(
                out,
                "none is left; one that is just being started may not be listed yet, so it goes on \
                 looking for {} minutes",
                operator::SETTLED.as_secs() / 60
            );
        }
        settled = left.settles;
        say(left);
    })
    .await;
    if left.is_nothing() {
        writeln!(out, "no machine of the fleet {fleet} is left")?;
        return Ok(ExitCode::SUCCESS);
    }
    if left.settles {
        let message = "none is left that is listed, but there was no time to wait for those that \
                       are just being started: try again with a longer --within";
        return Err(message.into());
    }
    Err("not everything has ended: try again, or end it in the cloud's own console".into())
}

fn say(left: &Left) {
    let mut out = std::io::stdout();
    for (region, names) in &left.machines {
        let _ = writeln!(out, "{region}: {} machines are being ended", names.len());
    }
    for (region, error) in &left.unknown {
        let _ = writeln!(out, "{region}: {error}");
    }
    for (name, error) in &left.refused {
        let _ = writeln!(out, "{name}: {error}");
    }
}

fn confirmed(question: &str) -> std::io::Result<bool> {
    let mut err = std::io::stderr();
    write!(err, "{question} Type yes: ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
