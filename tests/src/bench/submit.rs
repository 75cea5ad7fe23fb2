//! Durable submits through gRPC.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use stoker_proto::v1::job_service_client::JobServiceClient;
use stoker_proto::v1::{JobSpec, SubmitBatchRequest, SubmitRequest};
use tonic::transport::Channel;

use crate::fleet::{Fleet, echo_job};

use super::sample::Sample;

/// Connections that the clients share, spread over the coordinators.
const CONNECTIONS: usize = 4;

/// A job whose text has this many bytes.
fn job(bytes: usize) -> JobSpec {
    JobSpec {
        idempotency_key: stoker_runtime::ids::idempotency_key(),
        ..echo_job(vec!["x".repeat(bytes)])
    }
}

/// `clients` clients submit one job after the other; each waits for its answer.
///
/// # Errors
/// When a submit fails.
pub async fn unary(
    fleet: &Fleet,
    clients: usize,
    bytes: usize,
    duration: Duration,
) -> anyhow::Result<Sample> {
    measure(fleet, clients, duration, move |mut client| async move {
        client.submit(SubmitRequest { job: Some(job(bytes)) }).await?;
        Ok(())
    })
    .await
}

/// One client submits `jobs` jobs, one after the other.
///
/// # Errors
/// When a submit fails.
pub async fn in_turn(fleet: &Fleet, jobs: usize, bytes: usize) -> anyhow::Result<Sample> {
    let mut client = fleet.jobs().await?;
    let mut sample = Sample::new();
    for _ in 0..jobs {
        let began = Instant::now();
        client.submit(SubmitRequest { job: Some(job(bytes)) }).await?;
        sample.note(began);
    }
    Ok(sample)
}

/// As [`unary`], with `jobs` jobs in each call; the sample counts calls.
///
/// # Errors
/// When a submit fails.
pub async fn batches(
    fleet: &Fleet,
    clients: usize,
    (jobs, bytes): (usize, usize),
    duration: Duration,
) -> anyhow::Result<Sample> {
    measure(fleet, clients, duration, move |mut client| async move {
        let jobs = (0..jobs).map(|_| job(bytes)).collect();
        client.submit_batch(SubmitBatchRequest { jobs }).await?;
        Ok(())
    })
    .await
}

async fn measure<F, Fut>(
    fleet: &Fleet,
    clients: usize,
    duration: Duration,
    call: F,
) -> anyhow::Result<Sample>
where
    F: Fn(JobServiceClient<Channel>) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    let mut channels = Vec::new();
    for number in 0..CONNECTIONS.min(clients) {
        channels.push(fleet.jobs_at(number % fleet.coordinators()).await?);
    }
    let deadline = Instant::now() + duration;
    let running = (0..clients).map(|number| {
        let client = channels[number % channels.len()].clone();
        async move {
            let mut sample = Sample::new();
            while Instant::now() < deadline {
                let began = Instant::now();
                call(client.clone()).await?;
                sample.note(began);
            }
            anyhow::Ok(sample)
        }
    });
    let samples = try_join_all(running.map(in_parallel)).await?;
    let mut all = Sample::new();
    for sample in samples {
        all.merge(&sample?);
    }
    Ok(all)
}

/// Runs a client on any thread of the runtime.
#[expect(clippy::disallowed_methods, reason = "clients of a measurement need no shutdown")]
fn in_parallel<T: Send + 'static>(
    client: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(client)
}
