//! Machines that are taken away, over real processes: with a notice nothing is computed twice, without one
//! little is.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use stoker_proto::v1::{
    CloudNoticeKind, DrainCause, DrainWorkerRequest, Job, JobState, ListWorkersRequest, Worker,
    WorkerState,
};
use stoker_tests::chaos::{BEGUN, unstamped};
use stoker_tests::fleet::{Fleet, Options, PATIENCE, echo_fleet};
use stoker_tests::poll;
use stoker_tests::programs::program;
use stoker_worker::interruption::mock::{Fault, MockImds};

/// Items of the long job, and what an engine needs for each.
const ITEMS: usize = 5_000;
const DELAY: Duration = Duration::from_millis(8);
const LANES: u32 = 2;

/// Most items of a batch: its tokens, of which an item has at least one.
const BATCH: usize = 64;

/// `echo_fleet` says so: results are stored this often.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// The long job needs more than half of it, from any moment of its first half.
const NOTICE: Duration = Duration::from_secs(20);

/// A fleet whose engines write down what they execute.
struct Stage {
    fleet: Fleet,
    executions: PathBuf,
}

impl Stage {
    async fn set(name: &str) -> anyhow::Result<Self> {
        let delay = format!("{}ms", DELAY.as_millis());
        // Small batches: what is under way when something happens is little.
        let fleet = echo_fleet(name, &delay)
            .replace("task = \"echo\"", &format!("task = \"echo\"\nmax-batch-tokens = {BATCH}"));
        ensure!(fleet.contains("max-batch-tokens"), "the fleet's text has changed");
        let options = Options { fleet, lanes: LANES, ..Options::echo(name, &delay) };
        let fleet = Fleet::start(options).await?;
        let executions = fleet.folder().join("executions.log");
        Ok(Self { fleet, executions })
    }

    fn add_worker(&mut self, more: &[(&str, &str)]) -> anyhow::Result<usize> {
        let engine = program("stoker-engine-drill")?.display().to_string();
        let log = self.executions.display().to_string();
        let mut environment = vec![("STOKER_ECHO_ENGINE", engine.as_str()), ("DRILL_LOG", &log)];
        environment.extend(more);
        self.fleet.add_worker_with(&environment)
    }

    /// The texts that engines have begun to execute, in that order.
    fn executed(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.executions).unwrap_or_default();
        log.lines().filter_map(|line| line.strip_prefix(BEGUN)).map(str::to_owned).collect()
    }

    /// Submits the long job and waits until a part of it is stored.
    async fn long_job(&self, stored: u32) -> anyhow::Result<String> {
        let job = self.fleet.submit(texts()).await?;
        poll::until("results to be stored", PATIENCE, || async {
            let now = self.fleet.job(&job).await?;
            Ok(if now.items_done >= stored { Ok(()) } else { Err(format!("{now:?}")) })
        })
        .await?;
        Ok(job)
    }

    async fn comes_back_whole(&self, job: &str) -> anyhow::Result<Job> {
        let ended = self.fleet.wait_for(job, &[JobState::Succeeded]).await?;
        let outputs = self.fleet.echoed(job).await?;
        assert!(outputs.iter().map(|output| unstamped(output)).eq(texts()), "{outputs:?}");
        assert_eq!((ended.failures, ended.crashes), (0, 0), "{ended:?}");
        Ok(ended)
    }

    /// Waits until something is true of the first worker that was started.
    async fn first_worker(
        &self,
        what: &str,
        is: impl Fn(&Worker) -> bool,
    ) -> anyhow::Result<Worker> {
        poll::until(what, PATIENCE, || async {
            let list = self.fleet.admin().await?.list_workers(ListWorkersRequest {}).await?;
            let mut workers = list.into_inner().workers;
            workers.sort_by_key(|worker| worker.registered_at.map(|at| (at.seconds, at.nanos)));
            let first = workers.into_iter().next().context("no worker")?;
            Ok(if is(&first) { Ok(first) } else { Err(format!("{first:?}")) })
        })
        .await
    }
}

fn texts() -> Vec<String> {
    (0..ITEMS).map(|item| format!("{item}")).collect()
}

fn repeated(executed: &[String]) -> usize {
    executed.len() - executed.iter().collect::<BTreeSet<_>>().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_interrupted_with_a_notice_repeats_no_item() -> anyhow::Result<()> {
    let imds = MockImds::start()?;
    let mut stage = Stage::set("notice").await?;
    let first = stage.add_worker(&[("STOKER_IMDS", &imds.url())])?;
    stage.fleet.ready(1).await?;
    let job = stage.long_job(300).await?;
    stage.add_worker(&[])?;
    stage.fleet.ready(2).await?;
    let noticed_at = Instant::now();
    imds.interrupt_in(NOTICE);
    let status = stage.fleet.worker(first).wait(PATIENCE).await?;
    assert!(noticed_at.elapsed() < NOTICE, "it did not go in time");
    assert!(status.success(), "{status}: {}", stage.fleet.worker(first).log_tail());
    let worker = stage.first_worker("the reason", |worker| worker.drain_cause != 0).await?;
    assert_eq!(worker.drain_cause(), DrainCause::Interruption);
    assert_eq!(worker.notice(), CloudNoticeKind::Interruption);
    assert!(worker.lost_at.is_some());
    let ended = stage.comes_back_whole(&job).await?;
    assert_eq!((ended.attempts, ended.lost_workers), (2, 0), "it was handed over: {ended:?}");
    let executed = stage.executed();
    assert_eq!((executed.len(), repeated(&executed)), (ITEMS, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_drained_by_its_operator_repeats_no_item() -> anyhow::Result<()> {
    let mut stage = Stage::set("operator").await?;
    let first = stage.add_worker(&[])?;
    stage.fleet.ready(1).await?;
    let job = stage.long_job(300).await?;
    stage.add_worker(&[])?;
    stage.fleet.ready(2).await?;
    let busy = stage.first_worker("it holds the job", |worker| worker.busy_slots == 1).await?;
    // Too short for the job, and long enough for what is with the engine.
    let within = Some(stoker_proto::well_known::Duration { seconds: 5, nanos: 0 });
    let request = DrainWorkerRequest { worker_id: busy.id, within };
    stage.fleet.admin().await?.drain_worker(request).await?;
    stage.fleet.worker(first).wait(PATIENCE).await?;
    let worker = stage.first_worker("the reason", |worker| worker.drain_cause != 0).await?;
    assert_eq!(worker.drain_cause(), DrainCause::Operator);
    let ended = stage.comes_back_whole(&job).await?;
    assert_eq!((ended.attempts, ended.lost_workers), (2, 0), "{ended:?}");
    let executed = stage.executed();
    assert_eq!((executed.len(), repeated(&executed)), (ITEMS, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_interrupted_without_a_notice_repeats_less_than_two_checkpoints()
-> anyhow::Result<()> {
    let mut stage = Stage::set("no-notice").await?;
    let first = stage.add_worker(&[])?;
    stage.fleet.ready(1).await?;
    let job = stage.long_job(300).await?;
    let stored = stage.fleet.job(&job).await?.items_done;
    stage.fleet.worker(first).kill9();
    let lost = stage.executed().len() - usize::try_from(stored)?;
    stage.add_worker(&[])?;
    let ended = stage.comes_back_whole(&job).await?;
    assert_eq!((ended.attempts, ended.lost_workers), (2, 1), "{ended:?}");
    let repeated = repeated(&stage.executed());
    // An engine ends what it has begun, whatever becomes of its worker.
    let begun = BATCH * (usize::try_from(LANES)? + 1);
    assert!(repeated <= lost + begun, "{repeated} repeated, {lost} were not stored");
    // A kill falls between two checkpoints, and the last of them may have been on its way.
    let most = usize::try_from(2 * CHECKPOINT.as_millis() / DELAY.as_millis())?;
    let most = most * usize::try_from(LANES)? + begun;
    assert!(repeated <= most, "{repeated} repeated, {most} allowed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_within_the_notice_stays() -> anyhow::Result<()> {
    let imds = MockImds::start()?;
    let mut stage = Stage::set("in-time").await?;
    let first = stage.add_worker(&[("STOKER_IMDS", &imds.url())])?;
    stage.fleet.ready(1).await?;
    let job = stage.long_job(300).await?;
    stage.add_worker(&[])?;
    stage.fleet.ready(2).await?;
    imds.interrupt_in(Duration::from_mins(2));
    let status = stage.fleet.worker(first).wait(PATIENCE).await?;
    assert!(status.success(), "{status}: {}", stage.fleet.worker(first).log_tail());
    let ended = stage.comes_back_whole(&job).await?;
    assert_eq!(ended.attempts, 1, "{ended:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recommendation_is_shown_and_a_broken_service_is_lived_with() -> anyhow::Result<()> {
    let imds = MockImds::start()?;
    let mut stage = Stage::set("rebalance").await?;
    let worker = stage.add_worker(&[("STOKER_IMDS", &imds.url())])?;
    stage.fleet.ready(1).await?;
    poll::until("the service to be asked", PATIENCE, || async {
        Ok(if imds.asked() > 0 { Ok(()) } else { Err("not asked".to_owned()) })
    })
    .await?;
    for fault in [Fault::Status(500), Fault::Silent, Fault::Torn] {
        imds.set_fault(fault);
        let before = stage.fleet.worker(worker).log().matches("does not answer").count();
        poll::until("the worker to notice", PATIENCE, || async {
            let log = std::fs::read_to_string(stage.fleet.folder().join("worker-0.log"))?;
            let noticed = log.matches("does not answer").count() > before;
            Ok(if noticed { Ok(()) } else { Err(format!("{fault:?}")) })
        })
        .await?;
        imds.set_fault(Fault::None);
        let asked = imds.asked();
        poll::until("the worker to ask on", PATIENCE, || async {
            Ok(if imds.asked() > asked + 2 { Ok(()) } else { Err(format!("{fault:?}")) })
        })
        .await?;
    }
    imds.expire_tokens();
    imds.recommend_rebalance();
    let shown = |worker: &Worker| worker.notice() == CloudNoticeKind::Rebalance;
    let shown = stage.first_worker("the recommendation", shown).await?;
    assert_eq!((shown.state(), shown.drain_cause()), (WorkerState::Ready, DrainCause::Unspecified));
    assert_eq!(stage.fleet.worker(worker).ended()?, None, "it carries on");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_starts_on_a_machine_that_is_taken_back_ends_at_once() -> anyhow::Result<()> {
    let imds = MockImds::start()?;
    imds.interrupt_in(Duration::from_mins(2));
    let mut stage = Stage::set("doomed").await?;
    let worker = stage.add_worker(&[("STOKER_IMDS", &imds.url())])?;
    let status = stage.fleet.worker(worker).wait(PATIENCE).await?;
    assert!(status.success(), "{status}: {}", stage.fleet.worker(worker).log_tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_a_metadata_service_is_no_error() -> anyhow::Result<()> {
    let nobody = MockImds::start()?.url();
    let mut stage = Stage::set("no-imds").await?;
    let worker = stage.add_worker(&[("STOKER_IMDS", &nobody)])?;
    stage.fleet.ready(1).await?;
    let job = stage.fleet.submit(vec!["a".to_owned()]).await?;
    stage.fleet.wait_for(&job, &[JobState::Succeeded]).await?;
    let log = stage.fleet.folder().join("worker-0.log");
    poll::until("the worker to say so", PATIENCE, || async {
        let log = std::fs::read_to_string(&log)?;
        let told = log.contains("no instance metadata service");
        Ok(if told { Ok(()) } else { Err(log) })
    })
    .await?;
    assert_eq!(stage.fleet.worker(worker).ended()?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_that_is_cut_off_shuts_its_machine_down() -> anyhow::Result<()> {
    let mut stage = Stage::set("dead-man").await?;
    let evidence = stage.fleet.folder().join("shut-down");
    let command = format!("touch {}", evidence.display());
    let switch = [("STOKER_DEAD_MAN_AFTER", "10s"), ("STOKER_DEAD_MAN_COMMAND", &*command)];
    let worker = stage.add_worker(&switch)?;
    stage.fleet.ready(1).await?;
    stage.fleet.coordinator().kill9();
    assert!(!evidence.exists(), "not before it is cut off");
    let status = stage.fleet.worker(worker).wait(PATIENCE).await?;
    let log = stage.fleet.worker(worker).log();
    assert!(status.success() && evidence.exists(), "{status}: {log}");
    assert!(log.contains("shutting this machine down"), "{log}");
    Ok(())
}
