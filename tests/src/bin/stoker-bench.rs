//! Measures durable submits, jobs end to end, and a deep queue; prints JSON. See `make bench`.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use stoker_tests::bench::{
    cpu, disk, embedding, end_to_end, queued, raw_publish, recovery, sample, submit,
};
use stoker_tests::fleet::{Fleet, Options};

const USAGE: &str = "usage: stoker-bench raw-publish AMQP_URI | submit | end-to-end [AMQP_URI] | \
                     queued [JOBS] | recovery | embedding MODEL_DIRECTORY CORPUS";
const CLIENTS: usize = 64;
const BYTES: usize = 1024;
const MEASURED: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["raw-publish", uri] => raw_publish::run(uri, BYTES, CLIENTS, MEASURED).await?.to_json(),
        ["submit"] => submits().await?,
        ["end-to-end"] => whole(None).await?,
        ["end-to-end", uri] => whole(Some(uri.to_owned())).await?,
        ["embedding", model, corpus] => {
            let cores = std::thread::available_parallelism()?.get();
            embedding::run(model.as_ref(), corpus.as_ref(), u32::try_from(cores)?).await?
        }
        ["recovery"] => recovery::run(20).await?,
        ["queued"] => deep(1_000_000).await?,
        ["queued", jobs] => deep(jobs.parse().context(USAGE)?).await?,
        _ => bail!(USAGE),
    };
    println!("{result}");
    Ok(())
}

async fn submits() -> anyhow::Result<Value> {
    const JOBS: usize = 100;
    let mut fleet = Fleet::start(Options::echo("bench-submit", "0ms")).await?;
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

async fn whole(broker: Option<String>) -> anyhow::Result<Value> {
    const JOBS: usize = 20_000;
    let name = if broker.is_some() { "rabbitmq" } else { "embedded" };
    let options = Options { broker, slots: 256, ..Options::echo("bench-end-to-end", "0ms") };
    let mut fleet = Fleet::start(options).await?;
    let disk = disk::calibrate(fleet.folder())?;
    fleet.add_worker()?;
    fleet.ready(1).await?;
    end_to_end::throughput(&fleet, JOBS / 4).await?;
    let rate = end_to_end::throughput(&fleet, JOBS).await?;
    let latency = end_to_end::latency(&fleet, 500).await?;
    Ok(json!({
        "fsync_4kib": disk.to_json(),
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
