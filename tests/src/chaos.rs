//! The chaos run: a fleet of real processes under load, while a nemesis kills, freezes and cuts off its
//! parts. Afterwards the history of the clients and a log that the engines write outside of the system
//! are held against the invariants of the promise.

mod check;
mod clients;
mod nemesis;
mod resources;
mod verdict;

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

pub use check::Report;
pub use clients::{Expected, History};
pub use nemesis::Faults;
pub use resources::Resources;
pub use verdict::Findings;

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
    /// More than one needs Postgres.
    pub coordinators: u32,
    pub mode: Mode,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            jobs: 2_000,
            kills: 60,
            seconds: 60,
            seed: 1,
            broker: Broker::Embedded,
            store: Store::Sqlite,
            workers: 3,
            coordinators: 1,
            mode: Mode::Chaos,
        }
    }
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

/// With which a line of the engines' log begins.
pub const BEGUN: &str = "begun ";
pub const ENDED: &str = "ended ";
/// With which a text begins that kills its engine.
pub const POISON: &str = "poison";
/// With which a text begins that its engine refuses when it runs for the first time, and never again.
pub const FAILS_ONCE: &str = "fails-once";

/// A user of the servers whose password no log may show.
const USER: &str = "stoker";
const PASSWORD: &str = "canary-9be20c";

/// The output of an item: no two runs have the same, so that a second result cannot pass for the first.
pub fn stamp(text: &str, process: u32, run: u64) -> String {
    format!("{text}#{process}-{run}")
}

/// The text that was stamped.
pub fn unstamped(output: &str) -> &str {
    output.rsplit_once('#').map_or(output, |(text, _)| text)
}

/// Of an item: workers have something to lose most of the time.
const DELAY: &str = "10ms";
const SLOTS: u16 = 8;
/// Once everything is well again, a job must end at least this often until none is left.
const PROGRESS_LIMIT: Duration = Duration::from_mins(1);
/// Of what has ended, while a soak runs.
const SOAK_RETENTION: &str = "[retention]\nresults = \"5m\"\njobs = \"6m\"\n";

/// The fleet with what stands between its parts.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) fleet: Fleet,
    broker: Option<(Arc<RabbitMqNode>, Arc<TcpProxy>)>,
    database: Option<(Arc<PostgresServer>, Arc<TcpProxy>)>,
    /// Between workers and each coordinator.
    to_coordinators: Vec<Arc<TcpProxy>>,
    pub(crate) executions: PathBuf,
    pub(crate) settings: Settings,
}

impl Stage {
    async fn set(settings: Settings) -> anyhow::Result<Self> {
        let (broker, broker_uri) = match settings.broker {
            Broker::Embedded => (None, None),
            Broker::RabbitMq => {
                let start = tokio::task::spawn_blocking(RabbitMqNode::start);
                let node = Arc::new(start.await.context("starting a node")??);
                let network = Arc::new(TcpProxy::start(node.address()).await?);
                let uri = node.uri_of(USER, PASSWORD, network.address())?;
                (Some((node, network)), Some(uri))
            }
        };
        let (database, store) = match settings.store {
            Store::Sqlite => (None, None),
            Store::Postgres => {
                let start = tokio::task::spawn_blocking(PostgresServer::start);
                let server = Arc::new(start.await.context("starting a database server")??);
                let network = Arc::new(TcpProxy::start(server.address()).await?);
                let url = server.database()?;
                let name = url.rsplit('/').next().unwrap_or_default();
                let store = format!("postgres://{USER}:{PASSWORD}@{}/{name}", network.address());
                (Some((server, network)), Some(store))
            }
        };
        let retention = if settings.mode == Mode::Soak { SOAK_RETENTION } else { "" };
        let options = Options {
            store,
            fleet: echo_fleet("chaos", DELAY) + retention,
            broker: broker_uri,
            slots: SLOTS,
            ..Options::echo("chaos", DELAY)
        };
        let mut fleet = Fleet::start(options).await?;
        for _ in 1..settings.coordinators {
            fleet.add_coordinator().await?;
        }
        let mut to_coordinators = Vec::new();
        for number in 0..fleet.coordinators() {
            fleet.talk_to(number);
            to_coordinators.push(Arc::new(TcpProxy::start(fleet.socket()).await?));
        }
        fleet.talk_to(0);
        let executions = fleet.folder().join("executions.log");
        let mut stage = Self { fleet, broker, database, to_coordinators, executions, settings };
        for _ in 0..stage.settings.workers {
            stage.add_worker()?;
        }
        stage.fleet.ready(stage.settings.workers).await?;
        if let Some((node, _)) = stage.broker.clone() {
            // A queue that is not written there yet does not outlive the node: see its comment.
            tokio::task::spawn_blocking(move || node.flush_queue_registry()).await??;
        }
        Ok(stage)
    }

    /// Workers take turns with the coordinators.
    pub(crate) fn add_worker(&mut self) -> anyhow::Result<usize> {
        let engine = program("stoker-engine-drill")?.display().to_string();
        let log = self.executions.display().to_string();
        let turn = self.fleet.workers() % self.to_coordinators.len();
        let through = format!("http://{}", self.to_coordinators[turn].address());
        let environment = [("STOKER_ECHO_ENGINE", engine.as_str()), ("DRILL_LOG", log.as_str())];
        self.fleet.add_worker_through(&through, &environment)
    }

    fn surroundings(&self) -> nemesis::Surroundings {
        nemesis::Surroundings {
            to_coordinators: self.to_coordinators.clone(),
            broker: self.broker.clone(),
            database: self.database.clone(),
        }
    }

    fn addresses(&mut self) -> Vec<String> {
        let mut addresses = Vec::new();
        for number in 0..self.fleet.coordinators() {
            self.fleet.talk_to(number);
            addresses.push(self.fleet.address());
        }
        self.fleet.talk_to(0);
        addresses
    }
}

/// Runs it to the end and judges it. What a run with findings leaves on the disk is kept.
///
/// # Errors
/// When the run itself cannot be made; what it finds is in the report.
pub async fn run(settings: Settings) -> anyhow::Result<Report> {
    let mut stage = Stage::set(settings.clone()).await?;
    let began = Instant::now();
    let clients = {
        let record = stage.fleet.folder().join("calls.jsonl");
        clients::Clients::start(&stage.addresses(), &settings, &record)?
    };
    let watch = (settings.mode == Mode::Soak).then(|| resources::watch(&mut stage));
    let faults = nemesis::torment(&mut stage).await;
    let resources = match watch {
        Some(watch) => Some(watch.stop().await?),
        None => None,
    };
    let (tormented, healed_at) = (began.elapsed(), SystemTime::now());
    let healed = nemesis::heal(&mut stage).await;
    let faults = faults?;
    healed?;
    // Something has to start from now on, also when every client is done.
    let last = vec!["the first one after the faults".to_owned()];
    let id = stage.fleet.submit(last.clone()).await?;
    let mut history = clients.finish().await?;
    history.accepted.insert(id, Expected::of(last));
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
    if !report.findings.is_empty() {
        let folder = stage.fleet.keep();
        std::fs::write(folder.join("history.json"), serde_json::to_vec_pretty(&history)?)?;
        std::fs::write(folder.join("report.json"), serde_json::to_vec_pretty(&report)?)?;
        report.kept = Some(folder);
    }
    Ok(report)
}

/// Waits until every accepted job has ended and the outbox is empty, as long as there is progress.
async fn drain(stage: &Stage, history: &History) -> anyhow::Result<()> {
    let accepted = history.accepted.len();
    poll::down_to_nothing("another job to end", PROGRESS_LIMIT, || async {
        let (status, open) = check::open_jobs(&stage.fleet).await?;
        let outbox = status.outbox;
        let words = format!("{open} of {accepted} jobs are open, {outbox} messages wait");
        Ok((open + outbox, words))
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
