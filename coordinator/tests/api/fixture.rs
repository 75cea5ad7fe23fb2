//! A coordinator in this process, on a port and a directory of its own, and a worker made by hand.

use std::path::Path;
use std::time::Duration;

use stoker_coordinator::config::{BrokerChoice, Config, StoreChoice};
use stoker_coordinator::run::{RunError, run};
use stoker_proto::client::endpoint;
use stoker_proto::status::{Explained, explain};
use stoker_proto::v1;
use stoker_proto::v1::admin_service_client::AdminServiceClient;
use stoker_proto::v1::job_service_client::JobServiceClient;
use stoker_proto::v1::queue_service_client::QueueServiceClient;
use stoker_proto::v1::worker_service_client::WorkerServiceClient;
use stoker_runtime::fleet::load_fleet;
use stoker_runtime::tasks::Tasks;
use stoker_runtime::{ids, metrics};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// Nothing here takes longer unless it is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

const FLEET: &str = "fleet = 'test'\n\
    default-class = 'standard'\n\
    [classes.standard]\nmax-wait = '60s'\n\
    [classes.bulk]\nmax-wait = '1h'\n\
    [models.mini]\ntask = 'text-embedding'\nsource = 'file:/models/mini'\n\
    [models.echo]\ntask = 'echo'\n\
    [pools.default]\nmodels = ['mini', 'echo']\n";

pub(crate) struct Coordinator {
    pub(crate) port: u16,
    pub(crate) tasks: Tasks,
    running: JoinHandle<Result<(), RunError>>,
    folder: TempDir,
}

impl Coordinator {
    /// With the fleet above, and `more` at the end of its file.
    pub(crate) async fn start(more: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), more, BrokerChoice::Embedded).await
    }

    pub(crate) async fn start_in(folder: TempDir, more: &str, broker: BrokerChoice) -> Self {
        let config = config(&folder, more, broker);
        Self::start_with(folder, config).await
    }

    pub(crate) async fn start_with(folder: TempDir, config: Config) -> Self {
        let port_file = folder.path().join("port");
        let _ = std::fs::remove_file(&port_file);
        let config = Config { port_file: Some(port_file.clone()), ..config };
        let tasks = Tasks::new(CancellationToken::new());
        let group = tasks.clone();
        let handle = metrics::install().unwrap();
        let running = tasks.spawn("coordinator", async move { run(config, handle, &group).await });
        let port = until("the port file", || {
            let written = std::fs::read_to_string(&port_file).ok();
            let done = running.is_finished();
            async move {
                assert!(!done, "the coordinator ended at its start");
                written?.trim().parse().ok()
            }
        })
        .await;
        Self { port, tasks, running, folder }
    }

    /// Stops it in order and gives its directory back.
    pub(crate) async fn stop(self) -> TempDir {
        self.tasks.shutdown_token().cancel();
        tokio::time::timeout(LIMIT, self.running).await.unwrap().unwrap().unwrap();
        self.folder
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn channel(&self) -> Channel {
        let address = format!("http://127.0.0.1:{}", self.port);
        endpoint(&address).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel().await).max_encoding_message_size(64 << 20)
    }

    pub(crate) async fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel().await)
    }

    pub(crate) async fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel().await)
    }

    pub(crate) async fn queue(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::new(self.channel().await)
    }

    /// Submits an echo job and answers its id.
    pub(crate) async fn submit(&self, texts: &[&str]) -> String {
        let request = v1::SubmitRequest { job: Some(echo(texts)) };
        let response = self.jobs().await.submit(request).await.unwrap().into_inner();
        assert!(response.created);
        response.job_id
    }

    pub(crate) async fn get(&self, job: &str) -> v1::Job {
        self.ask(job).await.job.unwrap()
    }

    pub(crate) async fn ask(&self, job: &str) -> v1::GetResponse {
        let request = v1::GetRequest { job_id: job.to_owned() };
        self.jobs().await.get(request).await.unwrap().into_inner()
    }

    /// Waits until the job is in this state.
    pub(crate) async fn wait_for(&self, job: &str, state: v1::JobState) -> v1::Job {
        until(&format!("the state {}", state.as_str_name()), || async {
            Some(self.get(job).await).filter(|job| job.state() == state)
        })
        .await
    }
}

pub(crate) fn config(folder: &TempDir, more: &str, broker: BrokerChoice) -> Config {
    let path = folder.path().join("fleet.toml");
    std::fs::write(&path, format!("{FLEET}{more}")).unwrap();
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        fleet: load_fleet(&path).unwrap(),
        store: StoreChoice::Sqlite(folder.path().join("data")),
        broker,
        join_token: None,
        operator_token: None,
        autoscaler_token: None,
        identity: None,
        port_file: None,
    }
}

/// Asks again until there is an answer.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The next message of a stream that must have one.
pub(crate) async fn next<T>(stream: &mut Streaming<T>) -> T {
    tokio::time::timeout(LIMIT, stream.message()).await.unwrap().unwrap().unwrap()
}

/// The rest of a stream that must end well.
pub(crate) async fn rest<T>(mut stream: Streaming<T>) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(one) = tokio::time::timeout(LIMIT, stream.message()).await.unwrap().unwrap() {
        all.push(one);
    }
    all
}

pub(crate) fn echo(texts: &[&str]) -> v1::JobSpec {
    let texts = texts.iter().map(ToString::to_string).collect();
    let task = v1::job_input::Task::Echo(v1::EchoInput { texts });
    v1::JobSpec {
        model: "echo".to_owned(),
        input: Some(v1::JobInput { task: Some(task) }),
        ..v1::JobSpec::default()
    }
}

pub(crate) fn part(first_item: u32, texts: &[&str]) -> v1::ResultPart {
    let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
    v1::ResultPart {
        first_item,
        items: u32::try_from(texts.len()).unwrap(),
        output: Some(v1::result_part::Output::Texts(v1::Texts { texts })),
    }
}

pub(crate) fn as_tenant<T>(tenant: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("stoker-tenant", tenant.parse().unwrap());
    request
}

/// What a refusal says.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> Explained {
    explain(&result.unwrap_err())
}

/// The fields that a refusal names.
pub(crate) fn fields(explained: &Explained) -> Vec<&str> {
    explained.violations.iter().map(|violation| violation.field.as_str()).collect()
}

/// A worker that does what a test tells it.
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) calls: WorkerServiceClient<Channel>,
    pub(crate) commands: Streaming<v1::RegisterResponse>,
}

impl Worker {
    /// Registers with `slots` and says that it is ready.
    pub(crate) async fn ready(coordinator: &Coordinator, slots: u32) -> Self {
        let mut worker = Self::register(coordinator, ids::worker_id().to_string(), slots).await;
        worker.beat(v1::WorkerState::Ready).await;
        worker
    }

    pub(crate) async fn register(coordinator: &Coordinator, id: String, slots: u32) -> Self {
        Self::with(coordinator, registration(&id, slots)).await
    }

    /// Registers a worker of its own on this machine of a cloud.
    pub(crate) async fn on(coordinator: &Coordinator, instance: &str) -> Self {
        let registration = registration(&ids::worker_id().to_string(), 1);
        let instance = instance.to_owned();
        Self::with(coordinator, v1::RegisterRequest { instance, ..registration }).await
    }

    async fn with(coordinator: &Coordinator, registration: v1::RegisterRequest) -> Self {
        let id = registration.worker_id.clone();
        let mut calls = coordinator.workers().await;
        let mut commands = calls.register(registration).await.unwrap().into_inner();
        let first = next(&mut commands).await.command.unwrap();
        assert!(matches!(first, v1::register_response::Command::Registered(_)), "{first:?}");
        Self { id, calls, commands }
    }

    pub(crate) async fn beat(&mut self, state: v1::WorkerState) -> v1::HeartbeatResponse {
        let status = v1::WorkerStatus { state: state.into(), ..v1::WorkerStatus::default() };
        self.heartbeat(vec![], Some(status)).await.unwrap()
    }

    pub(crate) async fn heartbeat(
        &mut self,
        attempts: Vec<v1::AttemptProgress>,
        status: Option<v1::WorkerStatus>,
    ) -> Result<v1::HeartbeatResponse, Status> {
        let request = v1::HeartbeatRequest { worker_id: self.id.clone(), attempts, status };
        self.calls.heartbeat(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn claim(
        &mut self,
        claims: Vec<v1::Claim>,
    ) -> Result<Vec<v1::claim_outcome::Outcome>, Status> {
        let request = v1::ClaimRequest { worker_id: self.id.clone(), claims };
        let response = self.calls.claim(request).await?.into_inner();
        Ok(response.outcomes.into_iter().map(|outcome| outcome.outcome.unwrap()).collect())
    }

    /// Claims the job's present dispatch, as if its delivery had come.
    pub(crate) async fn take(&mut self, coordinator: &Coordinator, job: &str) -> Held {
        let dispatched = coordinator.wait_for(job, v1::JobState::Dispatched).await;
        let claim = claim(job, dispatched.dispatches);
        let mut outcomes = self.claim(vec![claim]).await.unwrap();
        match outcomes.pop().unwrap() {
            v1::claim_outcome::Outcome::Granted(grant) => {
                let (attempt, token) = (grant.attempt, grant.token.clone());
                let fence = v1::Fence { job_id: job.to_owned(), attempt, token };
                Held { fence, grant: *grant }
            }
            other => panic!("the claim was not granted: {other:?}"),
        }
    }

    pub(crate) async fn complete(
        &mut self,
        fence: &v1::Fence,
        parts: Vec<v1::ResultPart>,
    ) -> Result<v1::CompleteOutcome, Status> {
        let completion = v1::Completion { fence: Some(fence.clone()), parts, busy: None };
        let request =
            v1::CompleteRequest { worker_id: self.id.clone(), completions: vec![completion] };
        let response = self.calls.complete(request).await?.into_inner();
        Ok(response.outcomes().next().unwrap())
    }

    pub(crate) async fn fail(
        &mut self,
        fence: &v1::Fence,
        kind: v1::FailureKind,
    ) -> Result<v1::SettleOutcome, Status> {
        let failure = v1::AttemptFailure {
            fence: Some(fence.clone()),
            kind: kind.into(),
            code: "OUT_OF_MEMORY".to_owned(),
            message: "the batch did not fit".to_owned(),
        };
        let request = v1::FailRequest { worker_id: self.id.clone(), failures: vec![failure] };
        let response = self.calls.fail(request).await?.into_inner();
        Ok(response.outcomes().next().unwrap())
    }

    pub(crate) async fn release(
        &mut self,
        fence: &v1::Fence,
        reason: v1::ReleaseReason,
        parts: Vec<v1::ResultPart>,
    ) -> Result<v1::SettleOutcome, Status> {
        let release = v1::AttemptRelease {
            fence: Some(fence.clone()),
            reason: reason.into(),
            parts,
            begun: None,
        };
        let request = v1::ReleaseRequest { worker_id: self.id.clone(), releases: vec![release] };
        let response = self.calls.release(request).await?.into_inner();
        Ok(response.outcomes().next().unwrap())
    }

    pub(crate) async fn command(&mut self) -> v1::register_response::Command {
        next(&mut self.commands).await.command.unwrap()
    }
}

/// An attempt that was granted.
pub(crate) struct Held {
    pub(crate) fence: v1::Fence,
    pub(crate) grant: v1::Grant,
}

pub(crate) fn claim(job: &str, dispatch_seq: u32) -> v1::Claim {
    let claim_id = ids::claim_id().to_string();
    v1::Claim { job_id: job.to_owned(), dispatch_seq, claim_id }
}

pub(crate) fn registration(id: &str, slots: u32) -> v1::RegisterRequest {
    v1::RegisterRequest {
        worker_id: id.to_owned(),
        pool: "default".to_owned(),
        models: vec!["mini".to_owned(), "echo".to_owned()],
        slots,
        version: "0.1.0".to_owned(),
        host: "here".to_owned(),
        pid: 1,
        device: "cpu".to_owned(),
        metrics_address: String::new(),
        instance: String::new(),
        identity: None,
    }
}
