//! The one way to stop, by signal or by command.

use std::time::Duration;

use stoker_proto::v1;
use stoker_proto::v1::register_response::Command;
use stoker_proto::v1::{ReleaseReason, WorkerState};
use stoker_runtime::config::HumanDuration;

use crate::rig::{Rig, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_within_the_grace_period_is_finished() {
    let mut rig = Rig::started("finish").await;
    let job = rig.submit(&["slow:500"]).await;
    rig.holds(1).await;
    rig.stop().await.unwrap();
    assert!(rig.fake.world().job(job).is_done());
    let state = rig.fake.world().last_status.clone().unwrap().state();
    assert_eq!(state, WorkerState::Draining);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_is_given_back_with_its_checkpoint_and_the_rest_to_the_queue() {
    let mut rig = Rig::new("release").await;
    rig.config.grace = Some(HumanDuration::new(Duration::from_millis(300)));
    rig.config.slots = Some(1);
    rig.start();
    rig.consuming().await;
    // Two items of one batch each: a text as large as the budget separates them.
    let large = "x".repeat(4_096);
    let texts: Vec<&str> = std::iter::repeat_n(["slow:100", &large], 1_000).flatten().collect();
    let job = rig.submit(&texts).await;
    rig.job("the job is leased", job, |job| job.leased).await;
    let waiting = rig.submit(&["waiting"]).await;
    rig.job("some results are stored", job, |job| job.stored_items() > 0).await;
    rig.stop().await.unwrap();
    let depth = async || rig.depth().await;
    until("the consumers are gone", depth, |depth| depth.consumers == 0).await;
    {
        let world = rig.fake.world();
        let (release, results) = (&world.job(job).releases[0], world.job(job).results());
        assert_eq!(release.reason(), ReleaseReason::Draining);
        assert_eq!(results, texts[..results.len()]);
        assert_eq!(world.job(waiting).attempt, 0, "the waiting job was not started");
    }
    assert_eq!(rig.depth().await.ready, 2, "its delivery, and that of the job given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_job_goes_on_in_the_next_worker() {
    let mut rig = Rig::new("hand-over").await;
    rig.config.grace = Some(HumanDuration::new(Duration::from_millis(100)));
    rig.start();
    rig.consuming().await;
    let large = "x".repeat(4_096);
    let texts: Vec<&str> = std::iter::repeat_n(["slow:50", &large], 20).flatten().collect();
    let job = rig.submit(&texts).await;
    rig.job("some results are stored", job, |job| job.stored_items() > 4).await;
    rig.stop().await.unwrap();
    let stored = rig.fake.world().job(job).stored_items();
    assert!(!rig.fake.world().job(job).is_done());
    rig.start();
    rig.fake.dispatch(job).await;
    rig.done(job).await;
    let world = rig.fake.world();
    assert_eq!(world.job(job).results(), texts);
    let (_, grant) = world.job(job).granted_to.as_ref().unwrap();
    assert_eq!((grant.attempt, grant.first_item), (2, stored));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drain_command_ends_the_worker_in_good_order() {
    let mut rig = Rig::started("command").await;
    let job = rig.submit(&["slow:200"]).await;
    rig.holds(1).await;
    rig.fake.command(Command::Drain(v1::Drain { within: None })).await;
    rig.ended().await.unwrap();
    assert!(rig.fake.world().job(job).is_done());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cordoned_worker_finishes_and_takes_nothing_until_it_is_lifted() {
    let rig = Rig::started("cordoned").await;
    let running = rig.submit(&["slow:300"]).await;
    rig.job("the job is leased", running, |job| job.leased).await;
    rig.fake.command(Command::Cordon(v1::Cordon { cordoned: true })).await;
    let depth = async || rig.depth().await;
    until("it stops consuming", depth, |depth| depth.consumers == 0).await;
    let waiting = rig.submit(&["waiting"]).await;
    rig.done(running).await;
    let state = async || rig.fake.world().last_status.clone().map(|status| status.state());
    until("it says so", state, |state| *state == Some(WorkerState::Cordoned)).await;
    assert_eq!(rig.fake.world().job(waiting).attempt, 0);
    rig.fake.command(Command::Cordon(v1::Cordon { cordoned: false })).await;
    rig.done(waiting).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_ends_at_once() {
    let mut rig = Rig::started("idle").await;
    let started = std::time::Instant::now();
    rig.stop().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "half of the grace period");
}
