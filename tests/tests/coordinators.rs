//! Several coordinators on one Postgres and one RabbitMQ: any takes any call, and one that dies is no loss.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use stoker_proto::v1::{
    CancelRequest, CordonWorkerRequest, DrainWorkerRequest, JobState, ListWorkersRequest,
    WatchRequest, Worker, WorkerState,
};
use stoker_tests::fleet::{Fleet, LEASE, Options, PATIENCE};
use stoker_tests::poll;
use stoker_tests::postgres::PostgresServer;
use stoker_tests::rabbitmq::RabbitMqNode;

/// A fleet with two coordinators; the first leads.
async fn pair(name: &str, delay: &str) -> anyhow::Result<Fleet> {
    let broker = Some(RabbitMqNode::shared()?.uri());
    let store = Some(PostgresServer::shared()?.database()?);
    let mut fleet = Fleet::start(Options { broker, store, ..Options::echo(name, delay) }).await?;
    leads(&mut fleet, 0).await?;
    fleet.add_coordinator().await?;
    Ok(fleet)
}

/// Waits until a coordinator says that it has all roles.
async fn leads(fleet: &mut Fleet, number: usize) -> anyhow::Result<()> {
    fleet.talk_to(number);
    let coordinator = &*fleet.coordinator();
    poll::until("the coordinator to lead", PATIENCE, || async {
        let roles = coordinator.log().matches("this coordinator leads").count();
        Ok(if roles >= 3 { Ok(()) } else { Err(format!("{roles} roles")) })
    })
    .await
}

async fn workers(fleet: &Fleet) -> anyhow::Result<Vec<Worker>> {
    Ok(fleet.admin().await?.list_workers(ListWorkersRequest {}).await?.into_inner().workers)
}

/// Waits until the coordinator that is spoken to sees its only worker in this state.
async fn seen(fleet: &Fleet, state: WorkerState) -> anyhow::Result<Worker> {
    poll::until(&format!("the worker to be seen as {state:?}"), PATIENCE, || async {
        let workers = workers(fleet).await?;
        let found = workers.iter().find(|worker| worker.state() == state).cloned();
        Ok(found.ok_or_else(|| format!("{workers:?}")))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn any_coordinator_takes_any_call() -> anyhow::Result<()> {
    let mut fleet = pair("any-call", "20ms").await?;
    // The worker's stream is at the one that does not lead: the leader has to know its slots.
    fleet.talk_to(1);
    fleet.add_worker()?;
    fleet.ready(1).await?;
    let here = fleet.submit_many(10, 3).await?;
    fleet.talk_to(0);
    let there = fleet.submit_many(10, 3).await?;
    fleet.all_succeed(&here).await?;
    fleet.talk_to(1);
    fleet.all_succeed(&there).await?;
    // A cancel that one coordinator takes reaches the worker through the other, and so does the news.
    let long = fleet.submit_many(1, 2_000).await?.remove(0);
    fleet.wait_for(&long, &[JobState::Leased]).await?;
    let mut news = fleet
        .jobs()
        .await?
        .watch(WatchRequest { job_ids: vec![long.clone()], texts: false })
        .await?
        .into_inner();
    fleet.talk_to(0);
    let began = Instant::now();
    fleet.jobs().await?.cancel(CancelRequest { job_id: long.clone() }).await?;
    let mut last = JobState::Unspecified;
    while let Some(event) = news.message().await? {
        last = event.job.context("news without a job")?.state();
    }
    assert_eq!(last, JobState::Cancelled);
    // The worker stopped by itself: the grace of two seconds, and a heartbeat, were not needed.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_shown_cordoned_and_drained_through_any_coordinator() -> anyhow::Result<()> {
    let mut fleet = pair("orders", "5ms").await?;
    fleet.talk_to(1);
    let worker = fleet.add_worker()?;
    fleet.talk_to(0);
    let id = seen(&fleet, WorkerState::Ready).await?.id;
    let cordon = |cordoned| CordonWorkerRequest { worker_id: id.clone(), cordoned };
    fleet.admin().await?.cordon_worker(cordon(true)).await?;
    seen(&fleet, WorkerState::Cordoned).await?;
    fleet.talk_to(1);
    seen(&fleet, WorkerState::Cordoned).await?;
    fleet.admin().await?.cordon_worker(cordon(false)).await?;
    fleet.talk_to(0);
    seen(&fleet, WorkerState::Ready).await?;
    let drain = DrainWorkerRequest { worker_id: id.clone(), within: None };
    fleet.admin().await?.drain_worker(drain).await?;
    let status = fleet.worker(worker).wait(PATIENCE).await?;
    assert!(status.success(), "{status}: {}", fleet.worker(worker).log_tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_followed_by_the_other() -> anyhow::Result<()> {
    let mut fleet = pair("failover", "10ms").await?;
    fleet.talk_to(1);
    let first = fleet.add_worker()?;
    fleet.ready(1).await?;
    let before = fleet.submit_many(30, 10).await?;
    fleet.talk_to(0);
    fleet.coordinator().kill9();
    fleet.talk_to(1);
    // Accepted while nobody leads, dispatched by the follower.
    let during = fleet.submit_many(10, 3).await?;
    leads(&mut fleet, 1).await?;
    fleet.all_succeed(&before).await?;
    fleet.all_succeed(&during).await?;
    // It sweeps as well: the leases of a worker that is killed run out.
    let after = fleet.submit_many(8, 200).await?;
    poll::until("a job to run", PATIENCE, || async {
        let state = fleet.job(&after[0]).await?.state();
        Ok(if state == JobState::Leased { Ok(()) } else { Err(format!("{state:?}")) })
    })
    .await?;
    fleet.worker(first).kill9();
    fleet.add_worker()?;
    fleet.all_succeed(&after).await?;
    let mut lost = 0;
    for id in &after {
        let job = fleet.job(id).await?;
        assert_eq!((job.failures, job.crashes), (0, 0), "{job:?}");
        lost += job.lost_workers;
    }
    assert!(lost > 0, "the kill hit nothing, so the test proved nothing");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_database_costs_no_job() -> anyhow::Result<()> {
    let server = PostgresServer::start()?;
    let broker = Some(RabbitMqNode::shared()?.uri());
    let store = Some(server.database()?);
    let options = Options { broker, store, ..Options::echo("database-kill", "10ms") };
    let mut fleet = Fleet::start(options).await?;
    fleet.add_coordinator().await?;
    fleet.add_worker()?;
    fleet.ready(1).await?;
    let ids = fleet.submit_many(40, 20).await?;
    poll::until("a job to run", PATIENCE, || async {
        for id in &ids {
            if fleet.job(id).await?.state() == JobState::Leased {
                return Ok(Ok(()));
            }
        }
        Ok(Err("none runs".to_owned()))
    })
    .await?;
    server.kill9();
    let refused = fleet.submit_many(1, 1).await.expect_err("there is no database");
    let status = refused.downcast_ref::<tonic::Status>().context("a status")?;
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    // Longer than a lease: nobody could renew one, and none may expire for it.
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    server.restart()?;
    for job in fleet.all_succeed(&ids).await? {
        assert_eq!((job.attempts, job.lost_workers), (1, 0), "{job:?}");
    }
    for number in [0, 1] {
        fleet.talk_to(number);
        assert!(fleet.coordinator().ended()?.is_none(), "{}", fleet.coordinator().log_tail());
    }
    Ok(())
}
