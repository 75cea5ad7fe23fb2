//! The promise, over real processes: nothing accepted is lost, and nothing has two results.

use anyhow::Context as _;
use stoker_proto::v1::{CancelRequest, JobState};
use stoker_tests::fleet::{Fleet, Options, PATIENCE, texts};
use stoker_tests::poll;
use stoker_tests::postgres::PostgresServer;
use stoker_tests::rabbitmq::RabbitMqNode;

/// Every story runs on both brokers, and on both stores.
macro_rules! stories {
    ($($name:ident: $delay:literal)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn embedded() -> anyhow::Result<()> {
                let options = Options::echo(stringify!($name), $delay);
                super::$name(Fleet::start(options).await?).await
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn rabbitmq() -> anyhow::Result<()> {
                let broker = Some(RabbitMqNode::shared()?.uri());
                let options = Options { broker, ..Options::echo(stringify!($name), $delay) };
                super::$name(Fleet::start(options).await?).await
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() -> anyhow::Result<()> {
                let store = Some(PostgresServer::shared()?.database()?);
                let options = Options { store, ..Options::echo(stringify!($name), $delay) };
                super::$name(Fleet::start(options).await?).await
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres_and_rabbitmq() -> anyhow::Result<()> {
                let broker = Some(RabbitMqNode::shared()?.uri());
                let store = Some(PostgresServer::shared()?.database()?);
                // Queues are named after the fleet, and the node is shared with the stories above.
                let name = concat!(stringify!($name), "-pg");
                let options = Options { broker, store, ..Options::echo(name, $delay) };
                super::$name(Fleet::start(options).await?).await
            }
        }
    )*};
}

stories! {
    jobs_come_back_whole: "0ms"
    a_killed_worker_costs_no_job: "5ms"
    a_killed_coordinator_costs_no_attempt: "20ms"
    a_worker_that_is_asked_to_stop_hands_its_work_over: "20ms"
    cancel_reaches_a_running_job: "50ms"
}

async fn some_run(fleet: &Fleet, ids: &[String]) -> anyhow::Result<()> {
    poll::until("a job to run", PATIENCE, || async {
        for id in ids {
            if fleet.job(id).await?.state() == JobState::Leased {
                return Ok(Ok(()));
            }
        }
        Ok(Err("none runs".to_owned()))
    })
    .await
}

async fn jobs_come_back_whole(mut fleet: Fleet) -> anyhow::Result<()> {
    fleet.add_worker()?;
    fleet.ready(1).await?;
    let ids = fleet.submit_many(50, 20).await?;
    for job in fleet.all_succeed(&ids).await? {
        assert_eq!((job.attempts, job.items_done), (1, 20));
        assert!(job.started_at.is_some() && job.finished_at.is_some());
    }
    Ok(())
}

async fn a_killed_worker_costs_no_job(mut fleet: Fleet) -> anyhow::Result<()> {
    let first = fleet.add_worker()?;
    fleet.ready(1).await?;
    let ids = fleet.submit_many(12, 50).await?;
    some_run(&fleet, &ids).await?;
    fleet.worker(first).kill9();
    fleet.add_worker()?;
    let jobs = fleet.all_succeed(&ids).await?;
    let lost: u32 = jobs.iter().map(|job| job.lost_workers).sum();
    assert!(lost > 0, "the kill hit nothing, so the test proved nothing");
    assert!(jobs.iter().all(|job| job.failures == 0 && job.crashes == 0));
    Ok(())
}

async fn a_killed_coordinator_costs_no_attempt(mut fleet: Fleet) -> anyhow::Result<()> {
    fleet.add_worker()?;
    fleet.ready(1).await?;
    let ids = fleet.submit_many(8, 30).await?;
    some_run(&fleet, &ids).await?;
    fleet.coordinator().kill9();
    fleet.start_coordinator().await?;
    for job in fleet.all_succeed(&ids).await? {
        assert_eq!(job.attempts, 1, "{job:?}");
    }
    Ok(())
}

async fn a_worker_that_is_asked_to_stop_hands_its_work_over(
    mut fleet: Fleet,
) -> anyhow::Result<()> {
    let first = fleet.add_worker()?;
    fleet.ready(1).await?;
    let ids = fleet.submit_many(8, 30).await?;
    some_run(&fleet, &ids).await?;
    fleet.worker(first).signal("TERM")?;
    fleet.add_worker()?;
    let status = fleet.worker(first).wait(PATIENCE).await?;
    assert!(status.success(), "{status}: {}", fleet.worker(first).log_tail());
    for job in fleet.all_succeed(&ids).await? {
        assert_eq!((job.failures, job.crashes, job.lost_workers), (0, 0, 0), "{job:?}");
    }
    Ok(())
}

async fn cancel_reaches_a_running_job(mut fleet: Fleet) -> anyhow::Result<()> {
    fleet.add_worker()?;
    fleet.ready(1).await?;
    let long = fleet.submit(texts(0, 2_000)).await?;
    fleet.wait_for(&long, &[JobState::Leased]).await?;
    let request = CancelRequest { job_id: long.clone() };
    let answer = fleet.jobs().await?.cancel(request).await?.into_inner();
    assert!(answer.job.context("an answer without a job")?.cancel_requested);
    fleet.wait_for(&long, &[JobState::Cancelled]).await?;
    let short = fleet.submit(texts(1, 2)).await?;
    fleet.wait_for(&short, &[JobState::Succeeded]).await?;
    Ok(())
}
