//! A process dies at each step of the protocol (K1 to K12 of the fault matrix): no job is lost, none is
//! made twice, and every result is whole.
//!
//! The points are in the code, as `stoker_runtime::crash`; a test of the table below holds that none is
//! forgotten here.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use stoker_proto::v1::{CancelRequest, JobSpec, JobState, ListRequest, SubmitRequest};
use stoker_tests::fleet::{Fleet, Options, PATIENCE, echo_job, texts};
use stoker_tests::programs::children;
use tokio::time::{Instant, sleep};

const JOBS: usize = 12;
const ITEMS: usize = 10;
/// Items of a job that runs until something is done about it.
const LONG_ITEMS: usize = 500;

/// What brings a process to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    /// Jobs are submitted and run.
    Jobs,
    /// The coordinator starts while jobs wait and run.
    Restart,
    /// Results have been kept for as long as they are.
    Old,
    /// A job is cancelled while it runs.
    Cancel,
    /// A worker is asked to stop while it runs jobs.
    Drain,
    /// A worker is killed while it runs jobs.
    Kill,
    /// An engine is killed while it runs jobs.
    Crash,
    /// A cancelled job is run again.
    Retry,
}

/// Each point of the coordinator, the pass at which it dies, and the story.
const COORDINATOR: [(&str, u32, Story); 34] = [
    ("submit.before", 3, Story::Jobs),
    ("submit.after", 3, Story::Jobs),
    ("dispatch.before", 2, Story::Jobs),
    ("dispatch.after", 2, Story::Jobs),
    ("publish.before", 2, Story::Jobs),
    ("publish.after", 2, Story::Jobs),
    ("clear_outbox.before", 2, Story::Jobs),
    ("clear_outbox.after", 2, Story::Jobs),
    ("claim.before", 2, Story::Jobs),
    ("claim.after", 2, Story::Jobs),
    ("heartbeat.before", 2, Story::Jobs),
    ("heartbeat.after", 2, Story::Jobs),
    ("complete.before", 2, Story::Jobs),
    ("complete.after", 2, Story::Jobs),
    ("events.before", 9, Story::Jobs),
    ("events.after", 9, Story::Jobs),
    ("amnesty.before", 1, Story::Restart),
    ("amnesty.after", 1, Story::Restart),
    ("sweep.before", 3, Story::Kill),
    ("sweep.after", 3, Story::Kill),
    ("retention.before", 1, Story::Old),
    ("retention.after", 1, Story::Old),
    ("republish.before", 1, Story::Restart),
    ("republish.after", 1, Story::Restart),
    ("cancel.before", 1, Story::Cancel),
    ("cancel.after", 1, Story::Cancel),
    ("release.before", 1, Story::Drain),
    ("release.after", 1, Story::Drain),
    ("disconnect.before", 1, Story::Kill),
    ("disconnect.after", 1, Story::Kill),
    ("fail.before", 1, Story::Crash),
    ("fail.after", 1, Story::Crash),
    ("retry.before", 1, Story::Retry),
    ("retry.after", 1, Story::Retry),
];

/// Each point of the worker, the pass at which it dies, and how many attempts a job may take then.
const WORKER: [(&str, u32, u32); 8] = [
    // Received, but not claimed: no attempt is used.
    ("worker.claim.before", 1, 1),
    ("worker.claim.after", 1, 2),
    ("worker.heartbeat.before", 2, 2),
    ("worker.heartbeat.after", 2, 2),
    ("worker.complete.before", 1, 2),
    // Stored, but not acknowledged: the redelivery finds the end of the job.
    ("worker.complete.after", 1, 2),
    ("worker.ack.before", 1, 2),
    ("worker.ack.after", 1, 2),
];

/// Points that are the same step as one above, seen from another call.
const ALIKE: [&str; 2] = ["worker.fail", "worker.release"];

/// A fleet that goes on however often its coordinator dies.
struct Drill {
    fleet: Fleet,
    /// The coordinator died at its point.
    died: bool,
    /// Jobs that must succeed, with what they must answer.
    jobs: Vec<(String, Vec<String>)>,
}

impl Drill {
    async fn start(name: &str) -> anyhow::Result<Self> {
        let options = Options { slots: 4, ..Options::echo(name, "40ms") };
        Ok(Self { fleet: Fleet::start(options).await?, died: false, jobs: Vec::new() })
    }

    /// Lets the coordinator die at this point from now on.
    async fn arm(&mut self, point: &str) -> anyhow::Result<()> {
        self.fleet.coordinator().kill9();
        let environment = [("STOKER_CRASH_POINT", point)];
        // A point of its start is reached before it listens.
        if self.fleet.start_coordinator_with(&environment).await.is_err() {
            self.died = true;
            self.fleet.start_coordinator().await?;
        }
        Ok(())
    }

    /// Starts the coordinator again if it is dead.
    async fn revive(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.fleet.coordinator().ended()? else { return Ok(()) };
        ensure!(
            status.signal() == Some(9),
            "ended by itself: {}",
            self.fleet.coordinator().log_tail()
        );
        self.died = true;
        self.fleet.start_coordinator().await
    }

    /// Asks until there is an answer, as a client does.
    async fn insist<T>(
        &mut self,
        what: &str,
        call: impl AsyncFn(&Fleet) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match call(&self.fleet).await {
                Ok(answer) => return Ok(answer),
                Err(error) if Instant::now() >= deadline => bail!("{what}: {error:#}"),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
            self.revive().await?;
        }
    }

    /// Submits a job under a key of its own, until it is accepted.
    async fn submit(&mut self, items: usize) -> anyhow::Result<String> {
        let number = self.jobs.len();
        let texts = texts(number, items);
        let spec = JobSpec { idempotency_key: format!("key-{number}"), ..echo_job(texts.clone()) };
        let submit = async |fleet: &Fleet| {
            let request = SubmitRequest { job: Some(spec.clone()) };
            Ok(fleet.jobs().await?.submit(request).await?.into_inner().job_id)
        };
        let id = self.insist("submitting", submit).await?;
        self.jobs.push((id.clone(), texts));
        Ok(id)
    }

    async fn submit_all(&mut self) -> anyhow::Result<()> {
        for _ in 0..JOBS {
            self.submit(ITEMS).await?;
        }
        Ok(())
    }

    async fn reaches(&mut self, job: &str, states: &[JobState]) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let job =
                self.insist("getting a job", async |fleet: &Fleet| fleet.job(job).await).await?;
            if states.contains(&job.state()) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "waited in vain for {states:?}: {job:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn some_run(&mut self) -> anyhow::Result<()> {
        let (first, _) = self.jobs.first().context("nothing was submitted")?.clone();
        self.reaches(&first, &[JobState::Leased]).await
    }

    /// What makes the story more than jobs that run.
    async fn act(&mut self, story: Story) -> anyhow::Result<()> {
        match story {
            Story::Jobs | Story::Restart | Story::Old => {}
            Story::Cancel | Story::Retry => {
                let long = self.submit(LONG_ITEMS).await?;
                self.reaches(&long, &[JobState::Leased]).await?;
                let cancel = async |fleet: &Fleet| {
                    let request = CancelRequest { job_id: long.clone() };
                    Ok(fleet.jobs().await?.cancel(request).await?)
                };
                self.insist("cancelling", cancel).await?;
                self.reaches(&long, &[JobState::Cancelled]).await?;
                self.jobs.pop();
            }
            Story::Drain => {
                // Longer than the worker's grace.
                let long = self.submit(LONG_ITEMS / 4).await?;
                self.reaches(&long, &[JobState::Leased]).await?;
                self.fleet.worker(0).signal("TERM")?;
                self.fleet.add_worker()?;
            }
            Story::Kill => {
                self.some_run().await?;
                self.fleet.worker(0).kill9();
                self.fleet.add_worker()?;
            }
            Story::Crash => {
                self.some_run().await?;
                for engine in children(self.fleet.worker(0).pid())? {
                    engine.kill9()?;
                }
            }
        }
        Ok(())
    }

    /// Waits until the coordinator has died and is back.
    async fn comes_back(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.died {
            ensure!(Instant::now() < deadline, "the point was not reached, so nothing was tried");
            sleep(Duration::from_millis(20)).await;
            self.revive().await?;
        }
        Ok(())
    }

    /// From the coordinator's next start on.
    fn forget_results_soon(&self) -> anyhow::Result<()> {
        let file = self.fleet.folder().join("fleet.toml");
        let kept = "[retention]\nresults = \"100ms\"\njobs = \"1h\"\n";
        let text = std::fs::read_to_string(&file)? + kept;
        std::fs::write(&file, text).context("writing fleet.toml")
    }

    /// Every job is known as it ended, and none has its result any more.
    async fn results_are_forgotten(&mut self) -> anyhow::Result<()> {
        for (id, _) in self.jobs.clone() {
            self.reaches(&id, &[JobState::Succeeded]).await?;
            let deadline = Instant::now() + PATIENCE;
            while self.fleet.echoed(&id).await.is_ok() {
                ensure!(Instant::now() < deadline, "the result of {id} is still there");
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Every job ended well, with its own result, within so many attempts; and there are no others.
    async fn holds(&mut self, attempts: u32, others: usize) -> anyhow::Result<()> {
        for (id, texts) in self.jobs.clone() {
            self.reaches(&id, &[JobState::Succeeded]).await?;
            let job = self.fleet.job(&id).await?;
            ensure!(job.attempts <= attempts, "more than {attempts} attempts: {job:?}");
            ensure!((job.failures, job.crashes) == (0, 0) || attempts > 2, "{job:?}");
            let echoed = self.fleet.echoed(&id).await?;
            ensure!(echoed == texts, "the result of another job: {echoed:?}");
        }
        let request = ListRequest { page_size: 1_000, ..ListRequest::default() };
        let listed = self.fleet.jobs().await?.list(request).await?.into_inner().jobs;
        let ids: BTreeSet<&str> = listed.iter().map(|job| job.id.as_str()).collect();
        ensure!(self.jobs.iter().all(|(id, _)| ids.contains(id.as_str())), "a job is lost");
        ensure!(listed.len() == self.jobs.len() + others, "jobs that nobody submitted: {listed:?}");
        Ok(())
    }
}

async fn coordinator_dies_at(point: &str) -> anyhow::Result<()> {
    let known = COORDINATOR.iter().find(|(name, _, _)| *name == point);
    let (_, pass, story) = *known.context("no such point")?;
    let mut drill = Drill::start("crash-points").await?;
    drill.fleet.add_worker_with(&[("STOKER_GRACE", "500ms")])?;
    drill.fleet.ready(1).await?;
    if story == Story::Restart || story == Story::Old {
        drill.submit_all().await?;
        drill.some_run().await?;
    }
    if story == Story::Old {
        drill.holds(1, 0).await?;
        drill.forget_results_soon()?;
    }
    drill.arm(&format!("{point}@{pass}")).await?;
    if story != Story::Restart && story != Story::Old {
        drill.submit_all().await?;
    }
    drill.act(story).await?;
    if story == Story::Retry {
        retry_the_cancelled(&mut drill).await?;
    }
    drill.comes_back().await?;
    let (attempts, others) = match story {
        Story::Old => return drill.results_are_forgotten().await,
        Story::Jobs | Story::Restart => (1, 0),
        Story::Cancel => (1, 1),
        Story::Retry => (1, 2),
        Story::Drain | Story::Kill => (2, 0),
        Story::Crash => (3, 0),
    };
    drill.holds(attempts, others).await
}

/// However often it is asked for, there is one new job.
async fn retry_the_cancelled(drill: &mut Drill) -> anyhow::Result<()> {
    let listed = async |fleet: &Fleet| {
        let states = vec![JobState::Cancelled.into()];
        let request = ListRequest { states, ..ListRequest::default() };
        Ok(fleet.jobs().await?.list(request).await?.into_inner().jobs)
    };
    let cancelled = drill.insist("listing", listed).await?;
    let job_id = cancelled.first().context("nothing was cancelled")?.id.clone();
    let retry = async |fleet: &Fleet| {
        let request = stoker_proto::v1::RetryRequest { job_id: job_id.clone() };
        let answer = fleet.jobs().await?.retry(request).await?.into_inner();
        Ok(answer.job.context("an answer without a job")?.id)
    };
    let first = drill.insist("retrying", retry).await?;
    let again = drill.insist("retrying", retry).await?;
    ensure!(first == again, "two jobs of one retry");
    let cancel = async |fleet: &Fleet| {
        let request = CancelRequest { job_id: first.clone() };
        Ok(fleet.jobs().await?.cancel(request).await?)
    };
    drill.insist("cancelling", cancel).await?;
    drill.reaches(&first, &[JobState::Cancelled]).await
}

async fn worker_dies_at(point: &str) -> anyhow::Result<()> {
    let known = WORKER.iter().find(|(name, _, _)| *name == point);
    let (_, pass, attempts) = *known.context("no such point")?;
    let mut drill = Drill::start("crash-points-worker").await?;
    let value = format!("{point}@{pass}");
    drill.fleet.add_worker_with(&[("STOKER_CRASH_POINT", &value)])?;
    drill.submit_all().await?;
    let status = drill.fleet.worker(0).wait(PATIENCE).await?;
    ensure!(status.signal() == Some(9), "{status}: {}", drill.fleet.worker(0).log_tail());
    drill.fleet.add_worker()?;
    drill.holds(attempts, 0).await
}

macro_rules! deaths {
    ($dies_at:ident $list:ident: $($test:ident $point:literal)*) => {
        const $list: &[&str] = &[$($point),*];
        $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $test() -> anyhow::Result<()> {
            $dies_at($point).await
        }
        )*
    };
}

deaths! {
    coordinator_dies_at OF_COORDINATOR:
    coordinator_dies_before_submit "submit.before"
    coordinator_dies_after_submit "submit.after"
    coordinator_dies_before_dispatch "dispatch.before"
    coordinator_dies_after_dispatch "dispatch.after"
    coordinator_dies_before_publish "publish.before"
    coordinator_dies_after_publish "publish.after"
    coordinator_dies_before_clear_outbox "clear_outbox.before"
    coordinator_dies_after_clear_outbox "clear_outbox.after"
    coordinator_dies_before_claim "claim.before"
    coordinator_dies_after_claim "claim.after"
    coordinator_dies_before_heartbeat "heartbeat.before"
    coordinator_dies_after_heartbeat "heartbeat.after"
    coordinator_dies_before_complete "complete.before"
    coordinator_dies_after_complete "complete.after"
    coordinator_dies_before_events "events.before"
    coordinator_dies_after_events "events.after"
    coordinator_dies_before_amnesty "amnesty.before"
    coordinator_dies_after_amnesty "amnesty.after"
    coordinator_dies_before_sweep "sweep.before"
    coordinator_dies_after_sweep "sweep.after"
    coordinator_dies_before_retention "retention.before"
    coordinator_dies_after_retention "retention.after"
    coordinator_dies_before_republish "republish.before"
    coordinator_dies_after_republish "republish.after"
    coordinator_dies_before_cancel "cancel.before"
    coordinator_dies_after_cancel "cancel.after"
    coordinator_dies_before_release "release.before"
    coordinator_dies_after_release "release.after"
    coordinator_dies_before_disconnect "disconnect.before"
    coordinator_dies_after_disconnect "disconnect.after"
    coordinator_dies_before_fail "fail.before"
    coordinator_dies_after_fail "fail.after"
    coordinator_dies_before_retry "retry.before"
    coordinator_dies_after_retry "retry.after"
}

deaths! {
    worker_dies_at OF_WORKER:
    worker_dies_before_claim "worker.claim.before"
    worker_dies_after_claim "worker.claim.after"
    worker_dies_before_heartbeat "worker.heartbeat.before"
    worker_dies_after_heartbeat "worker.heartbeat.after"
    worker_dies_before_complete "worker.complete.before"
    worker_dies_after_complete "worker.complete.after"
    worker_dies_before_ack "worker.ack.before"
    worker_dies_after_ack "worker.ack.after"
}

/// The names in the code are those of the tables.
#[test]
fn no_point_is_forgotten() -> anyhow::Result<()> {
    let mut found = BTreeSet::new();
    for folder in ["../coordinator/src", "../worker/src", "../broker/src"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found)?;
    }
    let tables = COORDINATOR.iter().map(|(name, _, _)| *name);
    let tables = tables.chain(WORKER.iter().map(|(name, _, _)| *name));
    let steps = tables.filter_map(|name| name.rsplit_once('.')).map(|(step, _)| step);
    let known: BTreeSet<String> = steps.chain(ALIKE).map(str::to_owned).collect();
    assert_eq!(found, known);
    // Both sides of each step are in the tables, and each has its test.
    for (table, tests) in [
        (COORDINATOR.map(|(name, _, _)| name).to_vec(), OF_COORDINATOR),
        (WORKER.map(|(name, _, _)| name).to_vec(), OF_WORKER),
    ] {
        let sides = |name: &&str| {
            let step = name.rsplit_once('.').map_or("", |(step, _)| step);
            ["before", "after"].map(|side| format!("{step}.{side}"))
        };
        let wanted: BTreeSet<String> = table.iter().flat_map(sides).collect();
        let tested: BTreeSet<String> = tests.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(wanted, tested);
        assert_eq!(table.len(), tested.len());
    }
    Ok(())
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        for (call, is_step) in [("crash::around(\"", true), ("crash::point(\"", false)] {
            for rest in text.split(call).skip(1) {
                let name = rest.split('"').next().unwrap_or_default();
                let step = if is_step { Some(name) } else { name.rsplit_once('.').map(|of| of.0) };
                found.insert(step.context("a point without a step")?.to_owned());
            }
        }
    }
    Ok(())
}
