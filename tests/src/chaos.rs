//! The chaos run: a fleet of real processes under load, while a nemesis kills, freezes and cuts off its
//! parts. Afterwards the history of the clients and a log that the engines write outside of the system
//! are held against the invariants of the promise.

mod check;
mod clients;
mod nemesis;
mod resources;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::Instant;

use crate::fleet::{Fleet, Options, PATIENCE, echo_fleet};
use crate::poll;
use crate::postgres::PostgresServer;
use crate::programs::program;
use crate::rabbitmq::RabbitMqNode;
use crate::tcp_proxy::TcpProxy;

pub use check::{Findings, Report};
pub use clients::{Expected, History};
pub use nemesis::Faults;
pub use resources::Resources;

/// What is run.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    pub jobs: u32,
    /// Processes of workers and coordinators that are killed.
    pub kills: u32,
    /// Time over which jobs and faults are spread; the end takes some time more.
    pub seconds: u32,
    pub seed: u64,
    pub broker: Broker,
    pub store: Store,
    pub workers: u32,
    pub mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everything is killed, and everything is kept and checked at the end.
    Chaos,
    /// The coordinator and one worker live on and must not grow; what has ended is checked at once, since
    /// the store forgets it soon.
    Soak,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    Sqlite,
    Postgres,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Broker {
    Embedded,
    RabbitMq,
}

/// A text that no log may show.
pub const CANARY: &str = "canary-7d1f";

/// Of an item: workers have something to lose most of the time.
const DELAY: &str = "10ms";
const SLOTS: u16 = 8;
/// How long the jobs that are left may take once everything is well again.
const DRAIN_LIMIT: Duration = Duration::from_mins(5);
/// Of what has ended, while a soak runs.
const SOAK_RETENTION: &str = "[retention]\nresults = \"2m\"\njobs = \"3m\"\n";

/// The fleet with what stands between its parts.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) fleet: Fleet,
    pub(crate) broker: Option<Arc<RabbitMqNode>>,
    pub(crate) database: Option<Arc<PostgresServer>>,
    /// Between workers and coordinator.
    pub(crate) to_coordinator: Arc<TcpProxy>,
    pub(crate) executions: PathBuf,
    pub(crate) settings: Settings,
}

impl Stage {
    async fn set(settings: Settings) -> anyhow::Result<Self> {
        let broker = match settings.broker {
            Broker::Embedded => None,
            Broker::RabbitMq => {
                let start = tokio::task::spawn_blocking(RabbitMqNode::start);
                Some(Arc::new(start.await.context("starting a node")??))
            }
        };
        let database = match settings.store {
            Store::Sqlite => None,
            Store::Postgres => {
                let start = tokio::task::spawn_blocking(PostgresServer::start);
                Some(Arc::new(start.await.context("starting a database server")??))
            }
        };
        let retention = if settings.mode == Mode::Soak { SOAK_RETENTION } else { "" };
        let options = Options {
            store: database.as_ref().map(|server| server.database()).transpose()?,
            fleet: echo_fleet("chaos", DELAY) + retention,
            broker: broker.as_ref().map(|node| node.uri()),
            slots: SLOTS,
            ..Options::echo("chaos", DELAY)
        };
        let fleet = Fleet::start(options).await?;
        let to_coordinator = Arc::new(TcpProxy::start(fleet.socket()).await?);
        let executions = fleet.folder().join("executions.log");
        let mut stage = Self { fleet, broker, database, to_coordinator, executions, settings };
        for _ in 0..stage.settings.workers {
            stage.add_worker()?;
        }
        stage.fleet.ready(stage.settings.workers).await?;
        if let Some(node) = stage.broker.clone() {
            // A queue that is not written there yet does not outlive the node: see its comment.
            tokio::task::spawn_blocking(move || node.flush_queue_registry()).await??;
        }
        Ok(stage)
    }

    pub(crate) fn add_worker(&mut self) -> anyhow::Result<usize> {
        let engine = program("stoker-engine-drill")?.display().to_string();
        let log = self.executions.display().to_string();
        let through = format!("http://{}", self.to_coordinator.address());
        let environment = [("STOKER_ECHO_ENGINE", engine.as_str()), ("DRILL_LOG", log.as_str())];
        self.fleet.add_worker_through(&through, &environment)
    }
}

/// Runs it to the end and judges it.
///
/// # Errors
/// When the run itself cannot be made; what it finds is in the report.
pub async fn run(settings: Settings) -> anyhow::Result<Report> {
    let mut stage = Stage::set(settings.clone()).await?;
    let began = Instant::now();
    let address = stage.fleet.address();
    let clients = clients::Clients::start(&address, &settings);
    let watch = (settings.mode == Mode::Soak).then(|| resources::watch(&mut stage));
    let faults = nemesis::torment(&mut stage).await;
    let resources = match watch {
        Some(watch) => Some(watch.stop().await?),
        None => None,
    };
    let healed = nemesis::heal(&mut stage).await;
    let faults = faults?;
    healed?;
    let (tormented, healed_at) = (began.elapsed(), SystemTime::now());
    // Something has to start from now on, also when every client is done.
    let texts = vec!["the first one after the faults".to_owned()];
    let last = stage.fleet.submit(texts.clone()).await?;
    let mut history = clients.finish().await?;
    history.accepted.insert(last, Expected { texts, poison: false, cancelled: false });
    let drained = drain(&stage, &history).await;
    let mut report = check::judge(&mut stage, &history, &faults, healed_at).await?;
    report.seconds_under_faults = tormented.as_secs_f64();
    if let Err(error) = drained {
        report.findings.add("I11", format!("{error:#}"));
    }
    if let Some(resources) = resources {
        for grown in resources.grown() {
            report.findings.add("I15", grown);
        }
        report.resources = Some(resources);
    }
    Ok(report)
}

/// Waits until every accepted job has ended and the outbox is empty.
async fn drain(stage: &Stage, history: &History) -> anyhow::Result<()> {
    poll::until("all jobs to end", DRAIN_LIMIT, || async {
        let (status, open) = check::open_jobs(&stage.fleet).await?;
        if open == 0 && status.outbox == 0 {
            return Ok(Ok(()));
        }
        let accepted = history.accepted.len();
        Ok(Err(format!("{open} of {accepted} jobs are open, {} messages wait", status.outbox)))
    })
    .await
}

/// Waits until the coordinator answers.
pub(crate) async fn answers(fleet: &Fleet) -> anyhow::Result<()> {
    poll::until("the coordinator to answer", PATIENCE, || async {
        check::open_jobs(fleet).await?;
        Ok(Ok(()))
    })
    .await
}
