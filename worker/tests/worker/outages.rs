//! A coordinator that is away, forgets, or refuses.

use std::path::Path;
use std::time::Duration;

use stoker_core::ids::{Attempt, LeaseToken};
use stoker_proto::v1::result_part::Output;
use stoker_proto::v1::{FailureKind, ResultPart, Texts, WorkerState};
use stoker_runtime::config::HumanDuration;
use stoker_worker::WorkerError;
use stoker_worker::attempt::Fence;
use stoker_worker::spool::{Spool, SpoolError, Spooled};

use crate::rig::{Rig, until};
use crate::world::ClaimFault;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_outlives_an_absent_coordinator_and_counts_once() {
    let mut rig = Rig::started("away").await;
    rig.fake.world().faults.completes_away = true;
    let job = rig.submit(&["a"]).await;
    let calls = async || rig.fake.world().complete_calls;
    until("it was tried again", calls, |calls| *calls >= 3).await;
    let claims = rig.fake.world().claim_calls.len();
    let waiting = rig.submit(&["b"]).await;
    let seen = until("it goes on trying", calls, |calls| *calls >= 5).await;
    assert!(seen >= 5);
    assert_eq!(rig.fake.world().claim_calls.len(), claims, "no work is taken meanwhile");
    assert_eq!(rig.fake.world().job(waiting).attempt, 0);
    {
        let faults = &mut rig.fake.world().faults;
        faults.completes_away = false;
        faults.lose_complete_answers = 1;
    }
    rig.done(job).await;
    rig.done(waiting).await;
    rig.queue_is_empty().await;
    assert_eq!(rig.fake.world().job(job).completed.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_are_repeated_with_the_same_ids_until_they_are_answered() {
    let rig = Rig::started("claims").await;
    rig.fake.world().faults.claims = ClaimFault::Away;
    let job = rig.submit(&["a"]).await;
    rig.job("it is claimed again and again", job, |job| job.claim_ids.len() >= 3).await;
    rig.fake.world().faults.claims = ClaimFault::Answered;
    rig.done(job).await;
    let ids = rig.fake.world().job(job).claim_ids.clone();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_whose_answer_was_lost_is_given_again_and_its_job_runs_once() {
    let mut rig = Rig::started("lost-grant").await;
    rig.fake.world().faults.lose_claim_answers = 2;
    let job = rig.submit(&["a"]).await;
    rig.done(job).await;
    rig.beats().await;
    rig.queue_is_empty().await;
    let world = rig.fake.world();
    let job = world.job(job);
    assert_eq!((job.claim_ids.len(), job.attempt, job.completed.len()), (3, 1, 1));
    assert!(job.claim_ids.iter().all(|id| *id == job.claim_ids[0]), "{:?}", job.claim_ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_refused_by_its_broker_or_for_its_claims_is_not_ready() {
    let mut rig = Rig::new("refused-work").await;
    rig.fake.world().faults.refuse_consumers = true;
    rig.start();
    let state = async || {
        let status = rig.fake.world().last_status.clone();
        status.map(|status| (status.state(), status.resident_models.len()))
    };
    let starting = Some((WorkerState::Starting, 1));
    until("its engine is there, it is not ready", state, |state| *state == starting).await;
    rig.beats().await;
    assert_eq!(state().await, starting);
    rig.fake.world().faults.refuse_consumers = false;
    let ready = Some((WorkerState::Ready, 1));
    until("it is ready", state, |state| *state == ready).await;
    rig.fake.world().faults.claims = ClaimFault::Refused;
    let job = rig.submit(&["a"]).await;
    until("it is not ready", state, |state| *state == starting).await;
    rig.fake.world().faults.claims = ClaimFault::Answered;
    rig.done(job).await;
    until("it is ready again", state, |state| *state == ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_drops_its_consumers_costs_no_job() {
    let mut rig = Rig::started("dropped").await;
    let running = rig.submit(&["slow:300"]).await;
    rig.job("the job is leased", running, |job| job.leased).await;
    rig.fake.broker.disconnect_consumers();
    let after = rig.submit(&["after"]).await;
    rig.done(running).await;
    rig.done(after).await;
    // The delivery that came back is taken, and seen to be of a job that has ended.
    rig.nothing_waits().await;
    rig.beats().await;
    rig.queue_is_empty().await;
    assert_eq!(rig.fake.world().job(running).completed.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgetful_coordinator_is_registered_with_again_under_the_same_id() {
    let rig = Rig::started("again").await;
    rig.fake.world().faults.register_again = true;
    let registrations = async || {
        let world = rig.fake.world();
        world.registrations.iter().map(|r| r.worker_id.clone()).collect::<Vec<_>>()
    };
    let ids = until("a second registration", registrations, |ids| ids.len() == 2).await;
    assert_eq!(ids[0], ids[1]);
    let job = rig.submit(&["a"]).await;
    rig.done(job).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_not_let_in_waits_until_it_is() {
    let mut rig = Rig::new("refused-worker").await;
    rig.fake.world().faults.refuse_registrations = 2;
    rig.start();
    // It would have ended for good if the refusal had been about what it asked for.
    rig.consuming().await;
    let ids: Vec<String> =
        rig.fake.world().registrations.iter().map(|r| r.worker_id.clone()).collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let job = rig.submit(&["a"]).await;
    rig.done(job).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_result_fails_its_own_job_only() {
    let rig = Rig::started("refusal").await;
    rig.fake.world().faults.refuse_text = Some("bad".to_owned());
    let first = rig.submit(&["slow:200"]).await;
    let bad = rig.submit(&["bad"]).await;
    let good = rig.submit(&["good"]).await;
    for job in [first, good] {
        rig.done(job).await;
    }
    rig.job("the job fails", bad, |job| job.failures.len() == 1).await;
    let failure = rig.fake.world().job(bad).failures[0].clone();
    assert_eq!((failure.kind(), failure.code.as_str()), (FailureKind::Permanent, "RESULT_REFUSED"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undelivered_result_is_spooled_at_the_end_and_sent_at_the_next_start() {
    let mut rig = Rig::new("spooled").await;
    let spool = rig.directory.path().join("spool");
    rig.config.spool = Some(spool.clone());
    rig.config.grace = Some(HumanDuration::new(Duration::from_millis(200)));
    rig.start();
    rig.consuming().await;
    rig.fake.world().faults.completes_away = true;
    let job = rig.submit(&["a"]).await;
    let calls = async || rig.fake.world().complete_calls;
    until("it was tried", calls, |calls| *calls >= 1).await;
    rig.stop().await.unwrap();
    assert_eq!(results_in(&spool), 1);
    assert!(!rig.fake.world().job(job).is_done());

    rig.fake.world().faults.completes_away = false;
    rig.start();
    rig.done(job).await;
    until("the spool is empty", async || results_in(&spool), |files| *files == 0).await;
    assert_eq!(rig.fake.world().job(job).attempt, 1, "nothing was computed again");
}

fn results_in(spool: &Path) -> usize {
    let names = std::fs::read_dir(spool).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|extension| extension == "result")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spooled_result_that_cannot_be_read_stops_neither_the_others_nor_the_worker() {
    let mut rig = Rig::new("unreadable").await;
    let directory = rig.directory.path().join("spool");
    rig.config.spool = Some(directory.clone());
    let job = rig.fake.add(rig.model, &["a"]);
    {
        let spool = Spool::open(&directory).unwrap();
        let output = Some(Output::Texts(Texts { texts: vec!["a".to_owned()] }));
        let parts = vec![ResultPart { first_item: 0, items: 1, output }];
        let (attempt, token) = (Attempt::FIRST, LeaseToken::from_bytes([1; 16]));
        let fence = Fence { job, attempt, token };
        spool.write(&Spooled { fence, parts, busy: Duration::ZERO }).unwrap();
    }
    // Both come before the good one. One vanishes before it is read, the other is no file at all.
    std::os::unix::fs::symlink("nowhere", directory.join("!gone.result")).unwrap();
    std::fs::create_dir(directory.join("!folder.result")).unwrap();
    rig.start();
    rig.done(job).await;
    let next = rig.submit(&["next"]).await;
    rig.done(next).await;
    rig.beats().await;
    rig.queue_is_empty().await;
    assert!(directory.join("!folder.result").exists(), "it is tried again at the next start");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_worker_with_the_same_spool_does_not_start() {
    let mut rig = Rig::new("shared-spool").await;
    let directory = rig.directory.path().join("spool");
    rig.config.spool = Some(directory.clone());
    let _first = Spool::open(&directory).unwrap();
    rig.start();
    let error = rig.ended().await.unwrap_err();
    assert!(matches!(error, WorkerError::Spool(SpoolError::InUse { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_of_another_fleet_ends_the_worker() {
    let mut rig = Rig::new("other-fleet").await;
    let fleet = rig.config.fleet.clone().unwrap();
    let text = std::fs::read_to_string(&fleet).unwrap();
    std::fs::write(&fleet, text.replace("fleet = \"test\"", "fleet = \"mine\"")).unwrap();
    rig.start();
    let error = rig.ended().await.unwrap_err();
    assert!(matches!(error, WorkerError::OtherFleet { .. }), "{error}");
    assert!(error.to_string().contains("`test`") && error.to_string().contains("`mine`"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_registration_ends_the_worker_with_the_reason() {
    let mut rig = Rig::new("no-pool").await;
    let fleet = rig.config.fleet.clone().unwrap();
    let text = std::fs::read_to_string(&fleet).unwrap();
    std::fs::write(&fleet, text.replace("pools.default", "pools.other")).unwrap();
    rig.start();
    let error = rig.ended().await.unwrap_err();
    assert!(error.to_string().contains("there is no `other`"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_there_first_waits_for_its_coordinator() {
    let mut rig = Rig::new("early").await;
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    rig.config.coordinator = Some(format!("http://{port}"));
    rig.start();
    let engine = rig.engine_pid(None).await;
    assert!(engine > 0);
    let stop = tokio_util::sync::CancellationToken::new();
    rig.fake.serve_at(port, stop).await;
    let job = rig.submit(&["a"]).await;
    rig.done(job).await;
}
