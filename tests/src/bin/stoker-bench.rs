//! Measures durable submits, jobs end to end, and a deep queue; prints JSON. See `make bench`.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use stoker_tests::bench::{
    cpu, disk, embedding, end_to_end, queued, raw_publish, recovery, sample, scaling, submit,
    switching,
};
use stoker_tests::fleet::{Fleet, Options};
use stoker_tests::postgres::PostgresServer;

const USAGE: &str = "usage: stoker-bench [--store sqlite|postgres] [--coordinators N] \
                     raw-publish AMQP_URI | submit | end-to-end [AMQP_URI] | queued [JOBS] | \
                     recovery | scaling | embedding MODEL_DIRECTORY CORPUS | \
                     switching MODEL_DIRECTORY CORPUS";
const CLIENTS: usize = 64;
const BYTES: usize = 1024;
const MEASURED: Duration = Duration::from_secs(10);

/// What a fleet is measured on.
struct Setup {
    /// `None` for `SQLite`.
    postgres: Option<PostgresServer>,
    coordinators: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let setup = Setup::take(&mut arguments)?;
    let result = match arguments[..] {
        ["raw-publish", uri] => raw_publish::run(uri, BYTES, CLIENTS, MEASURED).await?.to_json(),
        ["submit"] => submits(&setup).await?,
        ["end-to-end"] => whole(&setup, None).await?,
        ["end-to-end", uri] => whole(&setup, Some(uri.to_owned())).await?,
        ["embedding", model, corpus] => {
            let cores = std::thread::available_parallelism()?.get();
            embedding::run(model.as_ref(), corpus.as_ref(), u32::try_from(cores)?).await?
        }
        ["switching", model, corpus] => switching::run(model.as_ref(), corpus.as_ref()).await?,
        ["recovery"] => recovery::run(20).await?,
        ["scaling"] => scaling::run(5).await?,
        ["queued"] => deep(1_000_000).await?,
        ["queued", jobs] => deep(jobs.parse().context(USAGE)?).await?,
        _ => bail!(USAGE),
    };
    println!("{result}");
    Ok(())
}

impl Setup {
    /// Reads the options before the name of the measurement.
    fn take(arguments: &mut Vec<&str>) -> anyhow::Result<Self> {
        let mut setup = Self { postgres: None, coordinators: 1 };
        while arguments.first().is_some_and(|argument| argument.starts_with("--")) {
            match arguments[..] {
                ["--store", "sqlite", ..] => setup.postgres = None,
                ["--store", "postgres", ..] => setup.postgres = Some(PostgresServer::start()?),
                ["--coordinators", number, ..] => {
                    setup.coordinators = number.parse().context(USAGE)?;
                }
                _ => bail!(USAGE),
            }
            arguments.drain(..2);
        }
        Ok(setup)
    }

    async fn start(&self, options: Options) -> anyhow::Result<Fleet> {
        let store = self.postgres.as_ref().map(PostgresServer::database).transpose()?;
        let mut fleet = Fleet::start(Options { store, ..options }).await?;
        for _ in 1..self.coordinators {
            fleet.add_coordinator().await?;
        }
        Ok(fleet)
    }

    fn store(&self) -> &'static str {
        if self.postgres.is_some() { "postgres" } else { "sqlite" }
    }
}

async fn submits(setup: &Setup) -> anyhow::Result<Value> {
    const JOBS: usize = 100;
    // Several coordinators need a broker that they share; one that cannot be reached will do here.
    let broker = (setup.coordinators > 1).then(|| "amqp://guest:guest@127.0.0.1:1".to_owned());
    let options = Options { broker, ..Options::echo("bench-submit", "0ms") };
    let mut fleet = setup.start(options).await?;
    let disk = disk::calibrate(fleet.folder())?;
    submit::unary(&fleet, CLIENTS, BYTES, Duration::from_secs(2)).await?;
    let meter = cpu::Meter::start(fleet.coordinator().pid())?;
    let unary = submit::unary(&fleet, CLIENTS, BYTES, MEASURED).await?;
    let unary_cpu = meter.read(unary.count())?;
    let meter = cpu::Meter::start(fleet.coordinator().pid())?;
    let batch = submit::batches(&fleet, 4, (JOBS, BYTES), MEASURED).await?;
    let batch_cpu = meter.read(batch.count() * JOBS as u64)?;
    Ok(json!({
        "fsync_4kib": disk.to_json(),
        "store": setup.store(),
        "coordinators": setup.coordinators,
        "clients": CLIENTS,
        "bytes": BYTES,
        "submit": unary.to_json(),
        "submit_cpu_microseconds_per_job": unary_cpu,
        "submit_batch_jobs_per_call": JOBS,
        "submit_batch": batch.to_json(),
        "submit_batch_cpu_microseconds_per_job": batch_cpu,
        "submit_batch_jobs_per_second": sample::round(batch.rate() * 100.0, 1),
    }))
}

async fn whole(setup: &Setup, broker: Option<String>) -> anyhow::Result<Value> {
    const JOBS: usize = 20_000;
    let name = if broker.is_some() { "rabbitmq" } else { "embedded" };
    let options = Options { broker, slots: 256, ..Options::echo("bench-end-to-end", "0ms") };
    let mut fleet = setup.start(options).await?;
    let disk = disk::calibrate(fleet.folder())?;
    // A worker for each coordinator, so that all of them have claims and results to commit.
    for number in 0..setup.coordinators {
        fleet.talk_to(number);
        fleet.add_worker()?;
    }
    fleet.ready(u32::try_from(setup.coordinators)?).await?;
    end_to_end::throughput(&fleet, JOBS / 4).await?;
    let rate = end_to_end::throughput(&fleet, JOBS).await?;
    let latency = end_to_end::latency(&fleet, 500).await?;
    Ok(json!({
        "fsync_4kib": disk.to_json(),
        "store": setup.store(),
        "coordinators": setup.coordinators,
        "broker": name,
        "jobs": JOBS,
        "jobs_per_second": sample::round(rate, 1),
        "submit_to_result": latency.to_json(),
    }))
}

async fn deep(jobs: usize) -> anyhow::Result<Value> {
    let mut fleet = Fleet::start(Options::echo("bench-queued", "0ms")).await?;
    let disk = disk::calibrate(fleet.folder())?;
    let mut result = queued::run(&mut fleet, jobs).await?;
    result["fsync_4kib"] = disk.to_json();
    Ok(result)
}
