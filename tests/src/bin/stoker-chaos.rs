//! `make chaos` and `make soak`: the promise under fire; prints a JSON report and fails when an invariant
//! is broken.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is its purpose")]

use std::process::ExitCode;

use anyhow::{Context, bail};
use stoker_tests::chaos::{Broker, Mode, Settings, Store, run};

const USAGE: &str = "usage: stoker-chaos [--jobs N] [--kills N] [--seconds N] [--seed N] \
                     [--broker embedded|rabbitmq] [--store sqlite|postgres] \
                     [--workers N] [--coordinators N] [--mode chaos|soak]";

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let settings = settings(std::env::args().skip(1))?;
    eprintln!("chaos: {}", serde_json::to_string(&settings)?);
    let report = run(settings).await?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    if let Some(resources) = &report.resources {
        eprintln!("chaos: {}", resources.text());
    }
    if report.findings.is_empty() {
        eprintln!(
            "chaos: {} jobs, {} kills, a job started {:.1} s after the last fault, nothing is broken",
            report.accepted, report.faults.kills, report.seconds_to_recover
        );
        return Ok(ExitCode::SUCCESS);
    }
    eprint!("chaos: BROKEN\n{}", report.findings.text());
    if let Some(folder) = &report.kept {
        eprintln!("chaos: logs and history are in {}", folder.display());
    }
    Ok(ExitCode::FAILURE)
}

fn settings(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Settings> {
    let mut settings = Settings::default();
    while let Some(name) = arguments.next() {
        let value = arguments.next().context(USAGE)?;
        let number = || value.parse().with_context(|| format!("{name} {value}: {USAGE}"));
        match name.as_str() {
            "--jobs" => settings.jobs = number()?,
            "--kills" => settings.kills = number()?,
            "--seconds" => settings.seconds = number()?,
            "--workers" => settings.workers = number()?,
            "--coordinators" => settings.coordinators = number()?,
            "--seed" => settings.seed = value.parse().context(USAGE)?,
            "--broker" => {
                settings.broker = match value.as_str() {
                    "embedded" => Broker::Embedded,
                    "rabbitmq" => Broker::RabbitMq,
                    _ => bail!("--broker {value}: {USAGE}"),
                }
            }
            "--store" => {
                settings.store = match value.as_str() {
                    "sqlite" => Store::Sqlite,
                    "postgres" => Store::Postgres,
                    _ => bail!("--store {value}: {USAGE}"),
                }
            }
            "--mode" => {
                settings.mode = match value.as_str() {
                    "chaos" => Mode::Chaos,
                    "soak" => Mode::Soak,
                    _ => bail!("--mode {value}: {USAGE}"),
                }
            }
            _ => bail!("{name}: {USAGE}"),
        }
    }
    if settings.coordinators > 1 && settings.store == Store::Sqlite {
        bail!("several coordinators need --store postgres: {USAGE}");
    }
    Ok(settings)
}
