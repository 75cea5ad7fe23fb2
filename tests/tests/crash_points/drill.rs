//! A fleet whose coordinator dies and comes back, with clients that insist.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use stoker_proto::client;
use stoker_proto::v1::job_service_client::JobServiceClient;
use stoker_proto::v1::{
    CancelRequest, Job, JobSpec, JobState, ListRequest, SubmitRequest, WatchRequest,
};
use stoker_tests::fleet::{Fleet, Options, PATIENCE, echo_job, texts};
use stoker_tests::postgres::PostgresServer;
use stoker_tests::programs::children;
use stoker_tests::rabbitmq::RabbitMqNode;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::Story;

const JOBS: usize = 12;
const ITEMS: usize = 10;
/// Items of a job that runs until something is done about it.
const LONG_ITEMS: usize = 500;

/// What the fleet stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// `SQLite` and the embedded broker.
    Small,
    /// Postgres and RabbitMQ.
    Large,
}

/// A fleet that goes on however often its coordinator dies.
pub(crate) struct Drill {
    pub(crate) fleet: Fleet,
    /// The coordinator died at its point.
    died: bool,
    /// Jobs that must succeed, with what they must answer.
    jobs: Vec<(String, Vec<String>)>,
    /// Those who wait for the ends of jobs.
    watchers: JoinSet<()>,
}

impl Drill {
    /// The fleet is named after the point: queues of several share a node.
    pub(crate) async fn start(point: &str, ground: Ground) -> anyhow::Result<Self> {
        let name = format!("dies-{}", point.replace(['.', '_'], "-"));
        let (broker, store) = match ground {
            Ground::Small => (None, None),
            Ground::Large => {
                (Some(RabbitMqNode::shared()?.uri()), Some(PostgresServer::shared()?.database()?))
            }
        };
        let options = Options { broker, store, slots: 4, ..Options::echo(&name, "40ms") };
        let fleet = Fleet::start(options).await?;
        Ok(Self { fleet, died: false, jobs: Vec::new(), watchers: JoinSet::new() })
    }

    /// Lets the coordinator die at this point from now on.
    pub(crate) async fn arm(&mut self, point: &str) -> anyhow::Result<()> {
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
    pub(crate) async fn insist<T>(
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

    pub(crate) async fn submit_all(&mut self) -> anyhow::Result<()> {
        for _ in 0..JOBS {
            self.submit(ITEMS).await?;
        }
        let ids = self.jobs.iter().map(|(id, _)| id.clone()).collect();
        self.watchers.spawn(watch(self.fleet.address(), ids));
        Ok(())
    }

    pub(crate) async fn reaches(&mut self, job: &str, states: &[JobState]) -> anyhow::Result<()> {
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

    pub(crate) async fn some_run(&mut self) -> anyhow::Result<()> {
        let (first, _) = self.jobs.first().context("nothing was submitted")?.clone();
        self.reaches(&first, &[JobState::Leased]).await
    }

    /// What makes the story more than jobs that run.
    pub(crate) async fn act(&mut self, story: Story) -> anyhow::Result<()> {
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
    pub(crate) async fn comes_back(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.died {
            ensure!(Instant::now() < deadline, "the point was not reached, so nothing was tried");
            sleep(Duration::from_millis(20)).await;
            self.revive().await?;
        }
        Ok(())
    }

    /// From the coordinator's next start on.
    pub(crate) fn forget_results_soon(&self) -> anyhow::Result<()> {
        let file = self.fleet.folder().join("fleet.toml");
        let kept = "[retention]\nresults = \"100ms\"\njobs = \"1h\"\n";
        let text = std::fs::read_to_string(&file)? + kept;
        std::fs::write(&file, text).context("writing fleet.toml")
    }

    /// Every job is known as it ended, and none has its result any more.
    pub(crate) async fn results_are_forgotten(&mut self) -> anyhow::Result<()> {
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
    pub(crate) async fn holds(&mut self, attempts: u32, others: usize) -> anyhow::Result<()> {
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
        while let Some(heard) = timeout(PATIENCE, self.watchers.join_next())
            .await
            .context("whoever watched did not hear of every end")?
        {
            heard.context("a watcher")?;
        }
        Ok(())
    }

    /// The jobs that have ended well so far.
    pub(crate) async fn succeeded(&self) -> anyhow::Result<Vec<Job>> {
        let states = vec![JobState::Succeeded.into()];
        let request = ListRequest { page_size: 1_000, states, ..ListRequest::default() };
        Ok(self.fleet.jobs().await?.list(request).await?.into_inner().jobs)
    }
}

/// Watches these jobs until each has ended; asks again whenever the coordinator is away.
async fn watch(address: String, ids: Vec<String>) {
    let mut open: BTreeSet<String> = ids.into_iter().collect();
    while !open.is_empty() {
        // Until the coordinator dies, or all is said.
        let _ = follow(&address, &mut open).await;
        sleep(Duration::from_millis(20)).await;
    }
}

async fn follow(address: &str, open: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let channel = client::endpoint(address)?.connect().await?;
    let request = WatchRequest { job_ids: open.iter().cloned().collect(), texts: false };
    let mut stream = JobServiceClient::new(channel).watch(request).await?.into_inner();
    while let Some(message) = stream.message().await? {
        let job = message.job.context("news of no job")?;
        if job.state() == JobState::Succeeded {
            open.remove(&job.id);
        }
    }
    Ok(())
}
