//! A whole fleet of real processes: a coordinator with its store and broker, and workers.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use stoker_proto::client;
use stoker_proto::v1::admin_service_client::AdminServiceClient;
use stoker_proto::v1::job_service_client::JobServiceClient;
use stoker_proto::v1::result_part::Output;
use stoker_proto::v1::{
    FleetStatusRequest, GetRequest, Job, JobState, ListWorkersRequest, ResultsRequest,
    SubmitRequest,
};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::poll;
use crate::ports::Port;
use crate::programs::{self, Program};

mod autoscaler;
mod echo;
mod stand_in;

pub use echo::{LEASE, echo_fleet, echo_job, texts};
pub use stand_in::StandIn;

/// How long a test waits for anything that should take a moment.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// What a fleet is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Text of `fleet.toml`.
    pub fleet: String,
    /// RabbitMQ's URI; `None` for the embedded broker.
    pub broker: Option<String>,
    pub slots: u16,
    pub lanes: u32,
    /// Where the store is; `None` for a folder of the fleet's own.
    pub data: Option<PathBuf>,
    /// Postgres' URL; `None` for `SQLite`.
    pub store: Option<String>,
}

impl Options {
    /// An echo fleet on the embedded broker.
    pub fn echo(name: &str, delay: &str) -> Self {
        Self {
            fleet: echo_fleet(name, delay),
            broker: None,
            slots: 8,
            lanes: 2,
            data: None,
            store: None,
        }
    }
}

/// A running fleet. Dropping it kills all of it and deletes its data.
#[derive(Debug)]
pub struct Fleet {
    options: Options,
    coordinators: Vec<Coordinator>,
    /// The one that clients and new workers talk to.
    spoken_to: usize,
    workers: Vec<Program>,
    folder: TempDir,
}

#[derive(Debug)]
struct Coordinator {
    program: Option<Program>,
    port: Port,
}

impl Coordinator {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { program: None, port: Port::reserve()? })
    }
}

impl Fleet {
    /// Starts a coordinator and waits until it answers.
    ///
    /// # Errors
    /// Shows the end of its log when it does not come up.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("stoker-fleet-").tempdir()?;
        std::fs::write(folder.path().join("fleet.toml"), &options.fleet)?;
        let coordinators = vec![Coordinator::new()?];
        let mut fleet = Self { options, coordinators, spoken_to: 0, workers: Vec::new(), folder };
        fleet.start_coordinator().await?;
        Ok(fleet)
    }

    /// Starts one more coordinator with the same store, which must be Postgres; answers its number. The
    /// first is 0.
    ///
    /// # Errors
    /// As [`Fleet::start`].
    pub async fn add_coordinator(&mut self) -> anyhow::Result<usize> {
        let before = self.spoken_to;
        self.coordinators.push(Coordinator::new()?);
        self.spoken_to = self.coordinators.len() - 1;
        self.start_coordinator().await?;
        let number = std::mem::replace(&mut self.spoken_to, before);
        Ok(number)
    }

    /// How many coordinators were started.
    pub fn coordinators(&self) -> usize {
        self.coordinators.len()
    }

    /// From now on clients and new workers talk to this coordinator, and it is the one that is killed,
    /// started and asked.
    pub fn talk_to(&mut self, coordinator: usize) {
        self.spoken_to = coordinator;
    }

    /// Starts the coordinator (again), on the port it had.
    ///
    /// # Errors
    /// As [`Fleet::start`].
    pub async fn start_coordinator(&mut self) -> anyhow::Result<()> {
        self.start_coordinator_with(&[]).await
    }

    /// As [`Fleet::start_coordinator`], with these environment variables.
    ///
    /// # Errors
    /// As [`Fleet::start`].
    pub async fn start_coordinator_with(
        &mut self,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let name = match self.spoken_to {
            0 => "coordinator".to_owned(),
            number => format!("coordinator-{number}"),
        };
        let port_file = self.folder.path().join(format!("port-of-{name}"));
        let _ = std::fs::remove_file(&port_file);
        let mut command = self.command("stoker-coordinator")?;
        command
            .args([
                "--listen",
                &format!("127.0.0.1:{}", self.coordinators[self.spoken_to].port.number()),
            ])
            .arg("--data")
            .arg(self.options.data.clone().unwrap_or_else(|| self.folder.path().join("data")))
            .args(["--port-file", &port_file.display().to_string()]);
        command.envs(environment.iter().copied());
        if let Some(url) = &self.options.store {
            command.env("STOKER_STORE", url);
        }
        let mut program = Program::start(&name, command, &self.log(&name))?;
        let what = "the coordinator to listen";
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !port_file.exists() {
            if let Some(status) = program.ended()? {
                bail!("the coordinator ended with {status}:\n{}", program.log_tail());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("waited {PATIENCE:?} for {what}; its log ends:\n{}", program.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let coordinator = &mut self.coordinators[self.spoken_to];
        let address = format!("http://127.0.0.1:{}", coordinator.port.number());
        let program = coordinator.program.insert(program);
        let ended = async |program: &mut Program| loop {
            match program.ended() {
                Ok(None) => tokio::time::sleep(Duration::from_millis(10)).await,
                Ok(Some(status)) => return format!("{status}:\n{}", program.log_tail()),
                Err(error) => return format!("{error:#}"),
            }
        };
        let answers = poll::until(what, PATIENCE, || async {
            let channel = client::endpoint(&address)?.connect().await?;
            AdminServiceClient::new(channel).fleet_status(FleetStatusRequest {}).await?;
            Ok(Ok(()))
        });
        tokio::select! {
            answered = answers => answered,
            why = ended(program) => bail!("the coordinator ended with {why}"),
        }
    }

    pub fn coordinator(&mut self) -> &mut Program {
        let coordinator = &mut self.coordinators[self.spoken_to];
        coordinator.program.as_mut().expect("the coordinator was started")
    }

    /// Starts a worker; answers its place among the workers.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn add_worker(&mut self) -> anyhow::Result<usize> {
        self.add_worker_with(&[])
    }

    /// As [`Fleet::add_worker`], with these environment variables.
    ///
    /// # Errors
    /// As [`Fleet::add_worker`].
    pub fn add_worker_with(&mut self, environment: &[(&str, &str)]) -> anyhow::Result<usize> {
        self.add_worker_through(&self.address(), environment)
    }

    /// As [`Fleet::add_worker_with`], with the coordinator behind another address.
    ///
    /// # Errors
    /// As [`Fleet::add_worker`].
    pub fn add_worker_through(
        &mut self,
        coordinator: &str,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<usize> {
        let number = self.workers.len();
        let mut command = self.command("stoker-worker")?;
        command
            .args(["--coordinator", coordinator])
            .args(["--slots", &self.options.slots.to_string()])
            .args(["--lanes", &self.options.lanes.to_string()])
            .args(["--spool", &self.path(&format!("spool-{number}"))])
            .envs(environment.iter().copied());
        let name = format!("worker-{number}");
        let log = self.log(&name);
        self.workers.push(Program::start(&name, command, &log)?);
        Ok(number)
    }

    /// The places of the workers that run.
    ///
    /// # Errors
    /// When a process cannot be asked.
    pub fn living_workers(&mut self) -> anyhow::Result<Vec<usize>> {
        let mut living = Vec::new();
        for (number, worker) in self.workers.iter_mut().enumerate() {
            if worker.ended()?.is_none() {
                living.push(number);
            }
        }
        Ok(living)
    }

    /// How many workers were started.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    pub fn worker(&mut self, number: usize) -> &mut Program {
        &mut self.workers[number]
    }

    /// Waits until this many workers are ready.
    ///
    /// # Errors
    /// When they are not in time; shows the end of the last one's log.
    pub async fn ready(&self, workers: u32) -> anyhow::Result<()> {
        let waited = poll::until("workers to be ready", PATIENCE, || async {
            let status = self.admin().await?.fleet_status(FleetStatusRequest {}).await?;
            let ready = status.into_inner().workers_ready;
            Ok(if ready == workers { Ok(()) } else { Err(format!("{ready} ready")) })
        })
        .await;
        let logs: String = self.workers.iter().map(Program::log_tail).collect();
        waited.with_context(|| format!("workers' logs end:\n{logs}"))
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.coordinators[self.spoken_to].port.number())
    }

    /// Where the coordinator listens.
    pub fn socket(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.coordinators[self.spoken_to].port.number()).into()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder on the disk when the fleet ends; answers where it is.
    pub fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }

    /// # Errors
    /// When the coordinator cannot be reached.
    pub async fn jobs(&self) -> anyhow::Result<JobServiceClient<Channel>> {
        self.jobs_at(self.spoken_to).await
    }

    /// As [`Fleet::jobs`], of the coordinator with this number.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn jobs_at(&self, number: usize) -> anyhow::Result<JobServiceClient<Channel>> {
        let address = format!("http://127.0.0.1:{}", self.coordinators[number].port.number());
        let channel = client::endpoint(&address)?.connect().await?;
        Ok(JobServiceClient::new(channel).max_decoding_message_size(client::MAX_RESPONSE_BYTES))
    }

    /// # Errors
    /// When the coordinator cannot be reached.
    pub async fn admin(&self) -> anyhow::Result<AdminServiceClient<Channel>> {
        Ok(AdminServiceClient::new(client::endpoint(&self.address())?.connect().await?))
    }

    /// Processes of the workers that hold leases, as the coordinator knows it.
    ///
    /// # Errors
    /// When the coordinator cannot be asked.
    pub async fn busy_workers(&self) -> anyhow::Result<BTreeSet<u32>> {
        let workers = self.admin().await?.list_workers(ListWorkersRequest {}).await?.into_inner();
        let busy = workers.workers.iter().filter(|worker| worker.busy_slots > 0);
        Ok(busy.map(|worker| worker.pid).collect())
    }

    /// Submits an echo job; answers its id.
    ///
    /// # Errors
    /// When it is not accepted.
    pub async fn submit(&self, texts: Vec<String>) -> anyhow::Result<String> {
        let job = Some(echo_job(texts));
        Ok(self.jobs().await?.submit(SubmitRequest { job }).await?.into_inner().job_id)
    }

    /// # Errors
    /// When there is no such job.
    pub async fn job(&self, id: &str) -> anyhow::Result<Job> {
        let request = GetRequest { job_id: id.to_owned() };
        let answer = self.jobs().await?.get(request).await?.into_inner();
        answer.job.context("an answer without a job")
    }

    /// Waits until the job is in one of these states.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn wait_for(&self, id: &str, states: &[JobState]) -> anyhow::Result<Job> {
        poll::until(&format!("job {id} to be {states:?}"), PATIENCE, || async {
            let job = self.job(id).await?;
            if states.contains(&job.state()) { Ok(Ok(job)) } else { Ok(Err(format!("{job:?}"))) }
        })
        .await
    }

    /// The texts that an echo job answered.
    ///
    /// # Errors
    /// When the job has no result.
    pub async fn echoed(&self, id: &str) -> anyhow::Result<Vec<String>> {
        let request = ResultsRequest { job_id: id.to_owned(), first_item: 0 };
        let mut stream = self.jobs().await?.results(request).await?.into_inner();
        let mut texts = Vec::new();
        while let Some(message) = stream.message().await? {
            match message.part.and_then(|part| part.output) {
                Some(Output::Texts(part)) => texts.extend(part.texts),
                other => bail!("an echo job answered {other:?}"),
            }
        }
        Ok(texts)
    }

    fn command(&self, name: &str) -> anyhow::Result<Command> {
        let mut command = programs::command(name)?;
        command
            .args(["--fleet", &self.path("fleet.toml")])
            .arg("--exit-on-stdin-eof")
            .env("STOKER_LOG", "info")
            // The machine that runs the tests may be one with notices of its own.
            .env("STOKER_IMDS", "off");
        if let Some(uri) = &self.options.broker {
            command.env("STOKER_BROKER_URI", uri);
        }
        Ok(command)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }
}
