//! A worker and a fake coordinator, wired for one test.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use stoker_broker::{Publisher, QueueDepth};
use stoker_core::ids::JobId;
use stoker_runtime::config::HumanDuration;
use stoker_worker::config::MachineConfig;
use stoker_worker::{Config, Settings, WorkerError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake::{FLEET, Fake};
use crate::world::Job;

/// Nothing that a test waits for takes longer, even on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

/// One worker with its coordinator. The worker is stopped when the test says so, or dropped.
pub(crate) struct Rig {
    pub(crate) fake: Fake,
    /// Also the model's name, so that its engine can be found among those of other tests.
    pub(crate) model: &'static str,
    pub(crate) coordinator: std::net::SocketAddr,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) config: Config,
    pub(crate) shutdown: CancellationToken,
    worker: Option<JoinHandle<Result<(), WorkerError>>>,
    _coordinator_runs: tokio_util::sync::DropGuard,
}

impl Rig {
    /// A coordinator, and settings for a worker that is not started yet.
    pub(crate) async fn new(model: &'static str) -> Self {
        let fake = Fake::new();
        let stop = CancellationToken::new();
        let coordinator = fake.serve(stop.clone()).await;
        fake.broker.declare(&[Fake::queue(model)]).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let fleet = directory.path().join("fleet.toml");
        std::fs::write(&fleet, fleet_file(model)).unwrap();
        let config = Config {
            coordinator: Some(format!("http://{coordinator}")),
            fleet: Some(fleet),
            lanes: Some(1),
            grace: Some(HumanDuration::new(Duration::from_secs(20))),
            echo_engine: Some(faulty_engine()),
            // The machine that runs the tests may be one with notices of its own.
            machine: MachineConfig { imds: Some("off".to_owned()), ..MachineConfig::default() },
            ..Config::default()
        };
        Self {
            fake,
            model,
            coordinator,
            directory,
            config,
            shutdown: CancellationToken::new(),
            worker: None,
            _coordinator_runs: stop.drop_guard(),
        }
    }

    /// With a worker that has begun to consume.
    pub(crate) async fn started(model: &'static str) -> Self {
        let mut rig = Self::new(model).await;
        rig.start();
        rig.consuming().await;
        rig
    }

    pub(crate) fn settings(&self) -> Settings {
        self.config.clone().check().unwrap()
    }

    pub(crate) fn start(&mut self) {
        self.shutdown = CancellationToken::new();
        let metrics = stoker_runtime::metrics::install().unwrap();
        let worker = stoker_worker::run(self.settings(), metrics, self.shutdown.clone());
        self.worker = Some(self.fake.tasks.spawn("worker", worker));
    }

    pub(crate) async fn consuming(&self) {
        until("the worker consumes", async || self.depth().await, |depth| depth.consumers == 1)
            .await;
    }

    /// How the worker ends by itself.
    pub(crate) async fn ended(&mut self) -> Result<(), WorkerError> {
        let worker = self.worker.take().unwrap();
        tokio::time::timeout(LIMIT, worker).await.expect("the worker ends").unwrap()
    }

    pub(crate) async fn stop(&mut self) -> Result<(), WorkerError> {
        self.shutdown.cancel();
        self.ended().await
    }

    pub(crate) async fn submit(&self, texts: &[&str]) -> JobId {
        self.fake.submit(self.model, texts).await
    }

    /// Waits until something is true of the job.
    pub(crate) async fn job(&self, what: &str, job: JobId, probe: impl Fn(&Job) -> bool) {
        let world = async || format!("{:?}", self.fake.world().job(job));
        let is = |_: &String| probe(self.fake.world().job(job));
        until(what, world, is).await;
    }

    pub(crate) async fn done(&self, job: JobId) {
        self.job("the job is done", job, Job::is_done).await;
    }

    /// Waits until the worker says that it holds so many jobs.
    pub(crate) async fn holds(&self, jobs: u32) {
        let held = async || self.fake.world().last_status.as_ref().map(|s| s.busy_slots);
        until("the jobs are held", held, |held| *held == Some(jobs)).await;
    }

    /// Waits for the next heartbeats: what the worker was about to do before them is done.
    pub(crate) async fn beats(&self) {
        let beats = self.fake.world().heartbeats;
        until("some heartbeats", async || self.fake.world().heartbeats, |n| *n > beats + 3).await;
    }

    pub(crate) async fn depth(&self) -> QueueDepth {
        self.fake.broker.depth(&Fake::queue(self.model)).await.unwrap()
    }

    /// Waits until every message is with a consumer.
    pub(crate) async fn nothing_waits(&self) {
        until("no message waits", async || self.depth().await, |depth| depth.ready == 0).await;
    }

    /// Waits until every delivery was acknowledged: none is there, and none comes back.
    pub(crate) async fn queue_is_empty(&mut self) {
        self.stop().await.unwrap();
        let depth = async || self.depth().await;
        until("the consumers are gone", depth, |depth| depth.consumers == 0).await;
        assert_eq!(self.depth().await.ready, 0, "deliveries were not acknowledged");
    }

    /// The process id of the engine, once there is one besides `not`.
    pub(crate) async fn engine_pid(&self, not: Option<i32>) -> i32 {
        let found = until(
            "an engine runs",
            async || engine_pids(self.model),
            |pids| pids.iter().any(|pid| Some(*pid) != not),
        )
        .await;
        found.into_iter().find(|pid| Some(*pid) != not).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Polls a state until it is as wanted, and says the last one when it never is.
pub(crate) async fn until<T: Debug>(
    what: &str,
    state: impl AsyncFn() -> T,
    wanted: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        let now = state().await;
        if wanted(&now) {
            return now;
        }
        assert!(Instant::now() < deadline, "never: {what}; last: {now:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn fleet_file(model: &str) -> String {
    format!(
        "fleet = \"{FLEET}\"\n[classes.standard]\nmax-wait = \"60s\"\n\
         [models.{model}]\ntask = \"echo\"\n[pools.default]\nmodels = [\"{model}\"]\n"
    )
}

fn engine_pids(model: &str) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut words = command.split(|byte| *byte == 0);
        let is_engine = words.next()?.ends_with(b"faulty-engine");
        (is_engine && words.any(|word| word == model.as_bytes())).then_some(pid)
    });
    processes.collect()
}

/// The engine for tests, which cargo builds beside them; built here when only they were asked for.
pub(crate) fn faulty_engine() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        let engine = profile.join("examples/faulty-engine");
        if !engine.exists() {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "-p", "stoker-worker", "--example", "faulty-engine"]);
            build.env("CARGO_TARGET_DIR", profile.parent().unwrap());
            assert!(build.status().unwrap().success(), "building the engine for tests");
        }
        engine
    };
    PATH.get_or_init(find).clone()
}
