//! Jobs that go well, and the many ways to be asked again or to be told no.

use stoker_core::ids::DispatchSeq;
use stoker_proto::v1;
use stoker_proto::v1::{FailureKind, ReleaseReason};

use crate::rig::Rig;
use crate::world::{BadGrant, Told};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_small_and_large_come_back_whole_and_are_acknowledged() {
    let mut rig = Rig::started("happy").await;
    let many: Vec<String> = (0..3_000).map(|n| format!("item {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let large = rig.submit(&many).await;
    let mut small = Vec::new();
    for n in 0..60 {
        small.push((n, rig.submit(&[&format!("a{n}"), &format!("b{n}")]).await));
    }
    for (n, job) in small {
        rig.done(job).await;
        assert_eq!(rig.fake.world().job(job).results(), [format!("a{n}"), format!("b{n}")]);
    }
    rig.done(large).await;
    assert_eq!(rig.fake.world().job(large).results(), many);
    rig.queue_is_empty().await;
    let world = rig.fake.world();
    assert!(world.jobs.values().all(|job| job.completed.len() == 1 && job.claim_ids.len() == 1));
    let registration = &world.registrations[0];
    assert_eq!((registration.pool.as_str(), registration.slots), ("default", 8));
    assert!(registration.metrics_address.starts_with("127.0.0.1:"), "{registration:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumed_job_goes_on_at_its_first_missing_item() {
    let rig = Rig::started("resume").await;
    let job = rig.fake.add(rig.model, &["a", "b", "c"]);
    let texts = v1::Texts { texts: vec!["A".to_owned(), "B".to_owned()] };
    let output = Some(v1::result_part::Output::Texts(texts));
    let stored = v1::ResultPart { first_item: 0, items: 2, output };
    rig.fake.world().job_mut(job).parts.push(stored);
    rig.fake.dispatch(job).await;
    rig.done(job).await;
    let world = rig.fake.world();
    assert_eq!(world.job(job).results(), ["A", "B", "c"], "stored results are not computed again");
    assert_eq!(world.job(job).completed[0][0].first_item, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_stored_while_a_job_runs_and_only_the_rest_completes_it() {
    let rig = Rig::started("checkpoint").await;
    // A text as large as the budget ends a batch.
    let large = "x".repeat(4_000);
    let texts: Vec<&str> = std::iter::repeat_n(["slow:100", &large], 8).flatten().collect();
    let job = rig.submit(&texts).await;
    rig.job("a checkpoint", job, |job| job.stored_items() > 0 && !job.is_done()).await;
    rig.done(job).await;
    let world = rig.fake.world();
    assert_eq!(world.job(job).results(), texts);
    let last: u32 = world.job(job).completed[0].iter().map(|part| part.items).sum();
    assert!(last < 16, "the completion repeats what was stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deferred_claim_is_repeated_with_the_same_id() {
    let rig = Rig::started("deferred").await;
    let job = rig.fake.add(rig.model, &["a"]);
    rig.fake.world().job_mut(job).defer = 2;
    rig.fake.dispatch(job).await;
    rig.done(job).await;
    let ids = rig.fake.world().job(job).claim_ids.clone();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_claims_are_acknowledged_and_forgotten() {
    let mut rig = Rig::started("refused").await;
    let busy = rig.submit(&["slow:300"]).await;
    rig.job("the job is leased", busy, |job| job.leased).await;
    let model = rig.model;
    rig.fake.publish(busy, DispatchSeq::new(1), model).await;
    rig.fake.publish(busy, DispatchSeq::new(0), model).await;
    let unknown = stoker_core::ids::JobId::from_bytes([9; 16]);
    rig.fake.publish(unknown, DispatchSeq::new(1), model).await;
    rig.job("all hints were claimed", busy, |job| job.claim_ids.len() == 3).await;
    rig.done(busy).await;
    rig.fake.publish(busy, DispatchSeq::new(1), model).await;
    rig.job("the late hint was claimed", busy, |job| job.claim_ids.len() == 4).await;
    rig.beats().await;
    rig.queue_is_empty().await;
    assert_eq!(rig.fake.world().job(busy).completed.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_that_cannot_be_read_are_failed_if_they_can_be_and_settled() {
    let mut rig = Rig::started("unreadable-grant").await;
    let no_input = rig.fake.add(rig.model, &["a"]);
    rig.fake.world().job_mut(no_input).bad_grant = Some(BadGrant::Input);
    let bad_token = rig.fake.add(rig.model, &["a"]);
    rig.fake.world().job_mut(bad_token).bad_grant = Some(BadGrant::Token);
    rig.fake.dispatch(no_input).await;
    rig.fake.dispatch(bad_token).await;
    rig.job("it fails", no_input, |job| job.failures.len() == 1).await;
    let failure = rig.fake.world().job(no_input).failures[0].clone();
    assert_eq!((failure.kind(), failure.code.as_str()), (FailureKind::Retryable, "UNKNOWN_INPUT"));
    rig.job("it is granted", bad_token, |job| job.leased).await;
    let next = rig.submit(&["next"]).await;
    rig.done(next).await;
    rig.beats().await;
    rig.queue_is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_item_fails_its_job_for_good_and_no_other() {
    let rig = Rig::started("invalid").await;
    let bad = rig.submit(&["fine", "invalid"]).await;
    let good = rig.submit(&["fine"]).await;
    rig.done(good).await;
    rig.job("the bad job fails", bad, |job| job.failures.len() == 1).await;
    let failure = rig.fake.world().job(bad).failures[0].clone();
    assert_eq!(failure.kind(), FailureKind::Permanent);
    assert_eq!(failure.code, "INVALID_INPUT");
    assert!(failure.message.contains("item 1"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_without_enough_memory_runs_in_smaller_batches() {
    let rig = Rig::started("memory").await;
    let job = rig.submit(&["oom", "oom", "oom", "oom"]).await;
    rig.done(job).await;
    assert_eq!(rig.fake.world().job(job).results().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_attempt_is_released_and_the_rest_goes_on() {
    let rig = Rig::started("stopped").await;
    // Long enough that only being stopped ends it in time.
    let by_command = rig.submit(&["slow:50"; 1_000]).await;
    rig.holds(1).await;
    let stop = v1::StopAttempt {
        job_id: by_command.to_string(),
        attempt: 1,
        reason: "cancelled".to_owned(),
    };
    rig.fake.command(v1::register_response::Command::StopAttempt(stop)).await;
    rig.job("the job is released", by_command, |job| job.releases.len() == 1).await;
    let release = rig.fake.world().job(by_command).releases[0].clone();
    assert_eq!(release.reason(), ReleaseReason::Stopped);

    let by_heartbeat = rig.submit(&["slow:50"; 1_000]).await;
    rig.holds(1).await;
    rig.fake.world().job_mut(by_heartbeat).told = Told::Stop;
    rig.job("the job is released", by_heartbeat, |job| job.releases.len() == 1).await;
    let next = rig.submit(&["next"]).await;
    rig.done(next).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_attempt_is_forgotten_without_a_word() {
    let mut rig = Rig::started("fenced").await;
    let job = rig.submit(&["slow:50"; 1_000]).await;
    rig.holds(1).await;
    rig.fake.world().job_mut(job).told = Told::Fenced;
    rig.holds(0).await;
    rig.queue_is_empty().await;
    let world = rig.fake.world();
    let job = world.job(job);
    assert!(job.completed.is_empty() && job.failures.is_empty() && job.releases.is_empty());
}
