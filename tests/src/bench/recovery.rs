//! How soon work goes on after a fault, with the usual times of the protocol.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use stoker_proto::v1::{CancelRequest, JobState, ListWorkersRequest};

use crate::fleet::{Fleet, Options, PATIENCE};
use crate::poll;
use crate::rabbitmq::RabbitMqNode;
use crate::tcp_proxy::TcpProxy;

use super::sample::{Sample, round};

const FLEET: &str = "fleet = \"bench-recovery\"\n[classes.standard]\nmax-wait = \"60s\"\n\
    [models.echo]\ntask = \"echo\"\ndelay = \"20ms\"\n[pools.default]\nmodels = [\"echo\"]\n";
/// A job that is still running when its worker dies: a minute.
const ITEMS: usize = 3_000;

fn options() -> Options {
    Options { fleet: FLEET.to_owned(), slots: 2, ..Options::echo("bench-recovery", "20ms") }
}

/// Measures from the SIGKILL of a worker to the next attempt of its job, from the silence of a
/// network to the same, and from a broker's return to the end of a job that waited for it.
///
/// # Errors
/// When something does not recover.
pub async fn run(kills: u32) -> anyhow::Result<Value> {
    let killed = killed_workers(kills).await?;
    let silent = silent_network().await?;
    let broker = broker_is_back().await?;
    Ok(json!({
        "worker_killed_to_next_attempt": {
            "count": killed.count(),
            "p50_seconds": round(killed.millis(0.5) / 1e3, 3),
            "p99_seconds": round(killed.millis(0.99) / 1e3, 3),
        },
        "network_silent_to_next_attempt_seconds": round(silent.as_secs_f64(), 1),
        "broker_back_to_finished_job_seconds": round(broker.as_secs_f64(), 1),
    }))
}

async fn killed_workers(kills: u32) -> anyhow::Result<Sample> {
    let mut fleet = Fleet::start(options()).await?;
    fleet.add_worker()?;
    let mut sample = Sample::new();
    for _ in 0..kills {
        fleet.add_worker()?;
        fleet.ready(2).await?;
        let job = long_job(&fleet).await?;
        let pid = runner(&fleet, &job).await?;
        let living = fleet.living_workers()?;
        let victim = living.into_iter().find(|number| fleet.worker(*number).pid() == pid);
        let victim = victim.context("the job's worker is not ours")?;
        let began = Instant::now();
        fleet.worker(victim).kill9();
        second_attempt(&fleet, &job).await?;
        sample.note(began);
        cancel(&fleet, job).await?;
    }
    Ok(sample)
}

async fn silent_network() -> anyhow::Result<Duration> {
    let mut fleet = Fleet::start(options()).await?;
    let network = TcpProxy::start(fleet.socket()).await?;
    fleet.add_worker_through(&format!("http://{}", network.address()), &[])?;
    fleet.ready(1).await?;
    let job = long_job(&fleet).await?;
    runner(&fleet, &job).await?;
    fleet.add_worker()?;
    let began = Instant::now();
    network.freeze();
    second_attempt(&fleet, &job).await?;
    Ok(began.elapsed())
}

async fn broker_is_back() -> anyhow::Result<Duration> {
    let node = RabbitMqNode::start()?;
    let options = Options { broker: Some(node.uri()), ..options() };
    let mut fleet = Fleet::start(options).await?;
    fleet.add_worker()?;
    fleet.ready(1).await?;
    let job = fleet.submit(vec!["first".to_owned()]).await?;
    fleet.wait_for(&job, &[JobState::Succeeded]).await?;
    node.flush_queue_registry()?;
    node.kill9();
    let job = fleet.submit(vec!["waits".to_owned()]).await?;
    node.restart()?;
    let began = Instant::now();
    fleet.wait_for(&job, &[JobState::Succeeded]).await?;
    Ok(began.elapsed())
}

async fn long_job(fleet: &Fleet) -> anyhow::Result<String> {
    fleet.submit((0..ITEMS).map(|item| item.to_string()).collect()).await
}

/// The process that runs the job.
async fn runner(fleet: &Fleet, job: &str) -> anyhow::Result<u32> {
    let worker = fleet.wait_for(job, &[JobState::Leased]).await?.worker_id;
    let listed = fleet.admin().await?.list_workers(ListWorkersRequest {}).await?.into_inner();
    let found = listed.workers.into_iter().find(|known| known.id == worker);
    Ok(found.context("nobody knows the job's worker")?.pid)
}

async fn second_attempt(fleet: &Fleet, job: &str) -> anyhow::Result<()> {
    poll::until("the next attempt", PATIENCE, || async {
        let job = fleet.job(job).await?;
        let again = job.attempts > 1 && job.state() == JobState::Leased;
        Ok(if again { Ok(()) } else { Err(format!("{job:?}")) })
    })
    .await
}

async fn cancel(fleet: &Fleet, job_id: String) -> anyhow::Result<()> {
    fleet.jobs().await?.cancel(CancelRequest { job_id: job_id.clone() }).await?;
    fleet.wait_for(&job_id, &[JobState::Cancelled]).await.map(drop)
}
