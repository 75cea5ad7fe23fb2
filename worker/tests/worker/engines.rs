//! Engines that die, hang or cannot start.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use stoker_engine_api::{FrameReader, FrameWriter, FromEngine, ItemInput, ItemKey, ToEngine};
use stoker_proto::v1::{FailureKind, WorkerState};
use stoker_runtime::config::HumanDuration;
use stoker_worker::WorkerError;

use crate::rig::{Rig, faulty_engine, until};

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_engine_is_a_crash_of_its_jobs_and_comes_back() {
    let rig = Rig::started("killed").await;
    let engine = rig.engine_pid(None).await;
    let job = rig.submit(&["slow:60000"]).await;
    rig.holds(1).await;
    // The batch reaches the engine within the next heartbeats.
    rig.beats().await;
    kill(engine);
    rig.job("the job fails", job, |job| job.failures.len() == 1).await;
    let failure = rig.fake.world().job(job).failures[0].clone();
    assert_eq!((failure.kind(), failure.code.as_str()), (FailureKind::Crash, "ENGINE_CRASHED"));
    assert!(failure.message.contains("signal 9"), "{failure:?}");
    assert_ne!(rig.engine_pid(Some(engine)).await, engine);
    let next = rig.submit(&["next"]).await;
    rig.done(next).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_crashed_batch_run_alone_and_only_the_poison_fails_again() {
    let rig = Rig::started("poison").await;
    // Both wait behind a slow job, so that they share a batch.
    let first = rig.submit(&["slow:1500"]).await;
    rig.holds(1).await;
    rig.beats().await;
    let poison = rig.submit(&["crash"]).await;
    let innocent = rig.submit(&["innocent"]).await;
    rig.done(first).await;
    rig.job("the poison fails", poison, |job| job.failures.len() == 1).await;
    rig.job("its neighbor ends", innocent, |job| job.is_done() || job.failures.len() == 1).await;
    for job in [poison, innocent] {
        if !rig.fake.world().job(job).is_done() {
            rig.fake.world().job_mut(job).run_alone = true;
            rig.fake.dispatch(job).await;
        }
    }
    rig.done(innocent).await;
    rig.job("the poison fails again", poison, |job| job.failures.len() == 2).await;
    assert!(rig.fake.world().job(innocent).failures.len() <= 1);
    assert!(rig.fake.world().job(poison).failures.iter().all(|f| f.kind() == FailureKind::Crash));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_kills_the_engine_while_it_is_prepared_is_blamed() {
    let rig = Rig::started("prepare").await;
    let poison = rig.submit(&["crash-prepare"]).await;
    rig.job("the poison fails", poison, |job| job.failures.len() == 1).await;
    assert_eq!(rig.fake.world().job(poison).failures[0].kind(), FailureKind::Crash);
    let next = rig.submit(&["next"]).await;
    rig.done(next).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_error_ends_the_engine_and_blames_the_batch() {
    let rig = Rig::started("device").await;
    let job = rig.submit(&["device"]).await;
    rig.job("the job fails", job, |job| job.failures.len() == 1).await;
    assert_eq!(rig.fake.world().job(job).failures[0].code, "DEVICE_ERROR");
    let next = rig.submit(&["next"]).await;
    rig.done(next).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_engine_is_killed_by_the_watchdog() {
    let mut rig = Rig::new("hanging").await;
    rig.config.engine_stall_limit = Some(HumanDuration::new(Duration::from_millis(500)));
    rig.start();
    rig.consuming().await;
    let job = rig.submit(&["hang"]).await;
    rig.job("the job fails", job, |job| job.failures.len() == 1).await;
    assert_eq!(rig.fake.world().job(job).failures[0].code, "ENGINE_HUNG");
    let next = rig.submit(&["next"]).await;
    rig.done(next).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_cannot_start_ends_the_worker_with_its_reason() {
    let mut rig = Rig::new("cannot-start").await;
    rig.start();
    let error = rig.ended().await.unwrap_err();
    assert!(matches!(error, WorkerError::Engine { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("model file is broken") && text.contains("copy it again"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_engine_ends_the_worker_with_its_path() {
    let mut rig = Rig::new("missing-engine").await;
    rig.config.echo_engine = Some("no-such-engine".into());
    rig.start();
    let text = rig.ended().await.unwrap_err().to_string();
    assert!(text.contains("no-such-engine") && text.contains("--echo-engine"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_larger_than_all_memory_is_refused_with_both_sizes() {
    let mut rig = Rig::new("too-large").await;
    rig.config.memory_budget = Some("8MiB".parse().unwrap());
    rig.start();
    let text = rig.ended().await.unwrap_err().to_string();
    for part in ["`too-large`", "32MiB", "8MiB", "`memory-budget`", "`models`"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_not_ready_before_its_engine_is_and_takes_no_work() {
    let mut rig = Rig::new("not-ready").await;
    let job = rig.submit(&["a"]).await;
    rig.start();
    let status = async || rig.fake.world().last_status.clone();
    let status = until("a heartbeat", status, Option::is_some).await.unwrap();
    assert_eq!(status.state(), WorkerState::Starting);
    assert!(status.resident_models.is_empty());
    assert_eq!((rig.depth().await.ready, rig.fake.world().job(job).attempt), (1, 0));
    assert!(rig.stop().await.is_ok());
}

#[test]
fn a_panic_that_quotes_an_input_tells_nobody_of_it() {
    let mut engine = Command::new(faulty_engine())
        .args(["--model", "panics", "--lanes", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = FrameReader::new(engine.stdout.take().unwrap());
    let input = ItemInput::Text("panic secret".to_owned());
    let prepare = ToEngine::Prepare { items: vec![(ItemKey(0), input)] };
    FrameWriter::new(engine.stdin.take().unwrap()).write(&prepare).unwrap();
    let prepared = loop {
        if let FromEngine::Prepared { items } = answers.read().unwrap().unwrap() {
            break items;
        }
    };
    let log = std::io::read_to_string(engine.stderr.take().unwrap()).unwrap();
    assert!(engine.wait().unwrap().success());
    assert!(log.contains("panicked") && log.contains("faulty.rs"), "{log}");
    assert!(!log.contains("secret"), "{log}");
    let told = format!("{prepared:?}");
    assert!(told.contains("faulty.rs") && !told.contains("secret"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_ends_with_its_worker() {
    let mut rig = Rig::started("orphan").await;
    let engine = rig.engine_pid(None).await;
    rig.stop().await.unwrap();
    let alive = async || std::path::Path::new(&format!("/proc/{engine}")).exists();
    until("the engine is gone", alive, |alive| !alive).await;
}
