//! A coordinator that answers as a test tells it to, and remembers what it was asked.

mod fleet;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use futures::stream::{self, BoxStream, StreamExt as _};
use stoker_proto::token::token;
use stoker_proto::v1;
use stoker_proto::v1::admin_service_server::{AdminService, AdminServiceServer};
use stoker_proto::v1::fleet_service_server::FleetServiceServer;
use stoker_proto::v1::job_service_server::{JobService, JobServiceServer};
use stoker_proto::well_known;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

pub(crate) use fleet::Ledger;

/// What the fake's clock says, in seconds since 1970.
pub(crate) const NOW: i64 = 1_700_000_010;

/// Script and memory of the fake.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Calls that are answered as usual before the failures begin.
    pub(crate) answer_first: usize,
    /// Answers of the next calls of whatever kind, before the usual ones.
    pub(crate) failures: VecDeque<Status>,
    pub(crate) jobs: BTreeMap<String, v1::Job>,
    /// What `Watch` sends before the jobs' present state.
    pub(crate) updates: Vec<v1::Job>,
    /// What `Watch` sends behind these, to those who want texts.
    pub(crate) texts: Vec<v1::TextNews>,
    /// Results by job, in parts.
    pub(crate) parts: BTreeMap<String, Vec<v1::ResultPart>>,
    /// `Results` breaks after this many parts, once.
    pub(crate) break_results_after: Option<usize>,
    /// `Watch` never ends.
    pub(crate) watch_for_ever: bool,
    pub(crate) workers_ready: u32,
    pub(crate) demands: Vec<v1::Demand>,
    /// No worker is listed.
    pub(crate) no_workers: bool,
    /// Keys of all jobs of all submissions, failed ones included.
    pub(crate) keys: Vec<String>,
    pub(crate) specs: Vec<v1::JobSpec>,
    pub(crate) requests: Vec<String>,
    /// What each of them showed.
    pub(crate) tokens: Vec<Option<String>>,
    pub(crate) tenant: Option<String>,
    pub(crate) ledger: Ledger,
    pub(crate) usage: Vec<v1::Usage>,
    /// What an explained job waits in.
    pub(crate) queue: Option<v1::JobQueue>,
    pub(crate) broker_problem: String,
}

/// The fake while it runs; it ends with the test.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fake {
    pub(crate) async fn start(state: State) -> Self {
        Self::start_at("127.0.0.1:0", state).await
    }

    pub(crate) async fn start_at(address: &str, state: State) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(state));
        let handler = Handler(Arc::clone(&state));
        let server = Server::builder()
            .add_service(JobServiceServer::new(handler.clone()))
            .add_service(AdminServiceServer::new(handler.clone()))
            .add_service(FleetServiceServer::new(handler))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = spawn(async move { server.await.unwrap() });
        Self { url, state, server }
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap())
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no shutdown to wait for tasks")]
fn spawn(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(future)
}

#[derive(Debug, Clone)]
struct Handler(Arc<Mutex<State>>);

impl Handler {
    fn begin(&self, what: String, metadata: &MetadataMap) -> Result<(), Status> {
        let mut state = self.0.lock().unwrap();
        state.requests.push(what);
        state.tokens.push(token(metadata.as_ref()).map(str::to_owned));
        let tenant = metadata.get("stoker-tenant").map(|name| name.to_str().unwrap().to_owned());
        state.tenant = tenant.or_else(|| state.tenant.take());
        if state.answer_first > 0 {
            state.answer_first -= 1;
            return Ok(());
        }
        state.failures.pop_front().map_or(Ok(()), Err)
    }

    fn job(&self, id: &str) -> Result<v1::Job, Status> {
        let state = self.0.lock().unwrap();
        state.jobs.get(id).cloned().ok_or_else(|| Status::not_found(format!("no job `{id}`")))
    }

    fn accept(&self, spec: &v1::JobSpec) -> v1::SubmitResponse {
        let mut state = self.0.lock().unwrap();
        let created = !state.specs.iter().any(|s| s.idempotency_key == spec.idempotency_key);
        state.specs.push(spec.clone());
        let id = format!("job-{}", state.specs.len());
        let job = v1::Job {
            id: id.clone(),
            model: spec.model.clone(),
            state: v1::JobState::Succeeded as i32,
            attempts: 1,
            ..v1::Job::default()
        };
        state.jobs.entry(id.clone()).or_insert(job);
        v1::SubmitResponse { job_id: id, created }
    }
}

type Stream<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl JobService for Handler {
    async fn submit(
        &self,
        _: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        Err(Status::unimplemented("the command submits in batches"))
    }

    async fn submit_batch(
        &self,
        request: Request<v1::SubmitBatchRequest>,
    ) -> Result<Response<v1::SubmitBatchResponse>, Status> {
        let keys = request.get_ref().jobs.iter().map(|job| job.idempotency_key.clone());
        self.0.lock().unwrap().keys.extend(keys);
        self.begin("submit".into(), request.metadata())?;
        let jobs = request.get_ref().jobs.iter().map(|job| self.accept(job)).collect();
        Ok(Response::new(v1::SubmitBatchResponse { jobs }))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        self.begin(format!("get {}", request.get_ref().job_id), request.metadata())?;
        let job = Some(self.job(&request.get_ref().job_id)?);
        Ok(Response::new(v1::GetResponse { job, waiting_for: "a free slot".into() }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let asked = request.get_ref();
        self.begin(format!("list {} {:?}", asked.page_size, asked.page_token), request.metadata())?;
        let state = self.0.lock().unwrap();
        let start: usize = asked.page_token.parse().unwrap_or(0);
        // Pages are smaller than asked for: nothing may rely on their size.
        let size = (asked.page_size as usize).min(2);
        let jobs: Vec<_> = state.jobs.values().skip(start).take(size).cloned().collect();
        let next = start + jobs.len();
        let next_page_token =
            if next < state.jobs.len() { next.to_string() } else { String::new() };
        Ok(Response::new(v1::ListResponse { jobs, next_page_token }))
    }

    type WatchStream = Stream<v1::WatchResponse>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.begin(format!("watch {}", request.get_ref().job_ids.len()), request.metadata())?;
        let v1::WatchRequest { job_ids, texts } = request.into_inner();
        let state = |job| v1::WatchResponse { job: Some(job), texts: None };
        let jobs = std::mem::take(&mut self.0.lock().unwrap().updates);
        let mut updates: Vec<v1::WatchResponse> = jobs.into_iter().map(state).collect();
        if texts {
            let texts = std::mem::take(&mut self.0.lock().unwrap().texts).into_iter();
            updates.extend(texts.map(|texts| v1::WatchResponse { job: None, texts: Some(texts) }));
        }
        for id in &job_ids {
            updates.push(state(self.job(id)?));
        }
        let updates = stream::iter(updates).map(Ok);
        if self.0.lock().unwrap().watch_for_ever {
            return Ok(Response::new(updates.chain(stream::pending()).boxed()));
        }
        Ok(Response::new(updates.boxed()))
    }

    type ResultsStream = Stream<v1::ResultsResponse>;

    async fn results(
        &self,
        request: Request<v1::ResultsRequest>,
    ) -> Result<Response<Self::ResultsStream>, Status> {
        let asked = request.get_ref();
        self.begin(format!("results {} {}", asked.job_id, asked.first_item), request.metadata())?;
        let mut state = self.0.lock().unwrap();
        let parts = state.parts.get(&asked.job_id).cloned();
        let parts =
            parts.ok_or_else(|| Status::failed_precondition("the job has not succeeded"))?;
        let parts = parts.into_iter().filter(|part| part.first_item >= asked.first_item);
        let mut answers: Vec<Result<_, Status>> =
            parts.map(|part| Ok(v1::ResultsResponse { part: Some(part) })).collect();
        if let Some(limit) = state.break_results_after.take() {
            answers.truncate(limit);
            answers.push(Err(Status::unavailable("shutting down")));
        }
        Ok(Response::new(stream::iter(answers).boxed()))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        self.begin(format!("cancel {}", request.get_ref().job_id), request.metadata())?;
        let job = Some(self.job(&request.get_ref().job_id)?);
        Ok(Response::new(v1::CancelResponse { job }))
    }

    async fn retry(
        &self,
        request: Request<v1::RetryRequest>,
    ) -> Result<Response<v1::RetryResponse>, Status> {
        self.begin(format!("retry {}", request.get_ref().job_id), request.metadata())?;
        let job = v1::Job { id: "job-new".into(), ..self.job(&request.get_ref().job_id)? };
        Ok(Response::new(v1::RetryResponse { job: Some(job) }))
    }

    /// Not among the requests that tests count and fail: each submission begins with it.
    async fn list_models(
        &self,
        _: Request<v1::ListModelsRequest>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        let model = |name: &str, task: v1::Task| v1::Model {
            name: name.to_owned(),
            task: task.into(),
            pool: "default".to_owned(),
        };
        let models = vec![
            model("parrot", v1::Task::Echo),
            model("echo", v1::Task::Echo),
            model("mini", v1::Task::TextEmbedding),
        ];
        Ok(Response::new(v1::ListModelsResponse { models }))
    }
}

#[tonic::async_trait]
impl AdminService for Handler {
    async fn fleet_status(
        &self,
        request: Request<v1::FleetStatusRequest>,
    ) -> Result<Response<v1::FleetStatusResponse>, Status> {
        self.begin("status".into(), request.metadata())?;
        let (jobs, workers_ready, broker_problem) = {
            let state = self.0.lock().unwrap();
            (state.jobs.len() as u64, state.workers_ready, state.broker_problem.clone())
        };
        Ok(Response::new(v1::FleetStatusResponse {
            fleet: "fake".into(),
            version: "9.9.9".into(),
            store: "memory".into(),
            broker: "embedded".into(),
            broker_problem,
            workers_ready,
            jobs: vec![v1::StateCount { state: v1::JobState::Succeeded as i32, jobs }],
            ..v1::FleetStatusResponse::default()
        }))
    }

    async fn list_queues(
        &self,
        request: Request<v1::ListQueuesRequest>,
    ) -> Result<Response<v1::ListQueuesResponse>, Status> {
        self.begin("queues".into(), request.metadata())?;
        Ok(Response::new(v1::ListQueuesResponse {
            queues: vec![v1::Queue { model: "echo".into(), queued: 3, ..v1::Queue::default() }],
        }))
    }

    async fn observe_demand(
        &self,
        request: Request<v1::ObserveDemandRequest>,
    ) -> Result<Response<v1::ObserveDemandResponse>, Status> {
        let history = request.get_ref().history.as_ref().map(|history| history.seconds);
        self.begin(format!("demand {history:?}"), request.metadata())?;
        let state = self.0.lock().unwrap();
        let observed_at = Some(well_known::Timestamp { seconds: NOW, nanos: 0 });
        Ok(Response::new(v1::ObserveDemandResponse { observed_at, demands: state.demands.clone() }))
    }

    async fn observe_usage(
        &self,
        request: Request<v1::ObserveUsageRequest>,
    ) -> Result<Response<v1::ObserveUsageResponse>, Status> {
        self.begin("usage".into(), request.metadata())?;
        let usage = self.0.lock().unwrap().usage.clone();
        Ok(Response::new(v1::ObserveUsageResponse { usage }))
    }

    async fn explain_job(
        &self,
        request: Request<v1::ExplainJobRequest>,
    ) -> Result<Response<v1::ExplainJobResponse>, Status> {
        let id = &request.get_ref().job_id;
        self.begin(format!("explain {id}"), request.metadata())?;
        let job = Some(self.job(id)?);
        let observed_at = Some(well_known::Timestamp { seconds: NOW, nanos: 0 });
        let queue = self.0.lock().unwrap().queue.clone();
        let attempts = vec![attempt()];
        let answer =
            v1::ExplainJobResponse { job, attempts, observed_at, queue, ..Default::default() };
        Ok(Response::new(answer))
    }

    async fn list_workers(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        self.begin("workers".into(), request.metadata())?;
        let none = self.0.lock().unwrap().no_workers;
        let workers = if none { Vec::new() } else { vec![worker("w1")] };
        Ok(Response::new(v1::ListWorkersResponse { workers, ..Default::default() }))
    }

    async fn cordon_worker(
        &self,
        request: Request<v1::CordonWorkerRequest>,
    ) -> Result<Response<v1::CordonWorkerResponse>, Status> {
        let asked = request.get_ref();
        self.begin(format!("cordon {} {}", asked.worker_id, asked.cordoned), request.metadata())?;
        Ok(Response::new(v1::CordonWorkerResponse { worker: Some(worker(&asked.worker_id)) }))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        let asked = request.get_ref();
        let within = asked.within.as_ref().map(|within| within.seconds);
        self.begin(format!("drain {} {within:?}", asked.worker_id), request.metadata())?;
        Ok(Response::new(v1::DrainWorkerResponse { worker: Some(worker(&asked.worker_id)) }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<v1::ListDeadLettersRequest>,
    ) -> Result<Response<v1::ListDeadLettersResponse>, Status> {
        let asked = request.get_ref();
        self.begin(format!("dead letters {}", asked.reason), request.metadata())?;
        let jobs = self.0.lock().unwrap().jobs.values().cloned().collect();
        Ok(Response::new(v1::ListDeadLettersResponse { jobs, next_page_token: String::new() }))
    }

    async fn get_dead_letter(
        &self,
        request: Request<v1::GetDeadLetterRequest>,
    ) -> Result<Response<v1::GetDeadLetterResponse>, Status> {
        self.begin("dead letter".into(), request.metadata())?;
        let job = Some(self.job(&request.get_ref().job_id)?);
        Ok(Response::new(v1::GetDeadLetterResponse { job, attempts: vec![attempt()] }))
    }

    async fn redrive_dead_letters(
        &self,
        request: Request<v1::RedriveDeadLettersRequest>,
    ) -> Result<Response<v1::RedriveDeadLettersResponse>, Status> {
        self.begin(format!("redrive {:?}", request.get_ref().job_ids), request.metadata())?;
        let ids = request.get_ref().job_ids.iter();
        let jobs = ids.map(|id| v1::Job { id: format!("new-{id}"), ..v1::Job::default() });
        Ok(Response::new(v1::RedriveDeadLettersResponse { jobs: jobs.collect() }))
    }

    async fn discard_dead_letters(
        &self,
        request: Request<v1::DiscardDeadLettersRequest>,
    ) -> Result<Response<v1::DiscardDeadLettersResponse>, Status> {
        self.begin(format!("discard {:?}", request.get_ref().job_ids), request.metadata())?;
        let discarded = u32::try_from(request.get_ref().job_ids.len()).unwrap();
        Ok(Response::new(v1::DiscardDeadLettersResponse { discarded }))
    }
}

fn attempt() -> v1::AttemptRecord {
    v1::AttemptRecord {
        attempt: 1,
        worker_id: "w1".into(),
        outcome: "crashed".into(),
        ..v1::AttemptRecord::default()
    }
}

fn worker(id: &str) -> v1::Worker {
    v1::Worker {
        id: id.to_owned(),
        pool: "default".into(),
        state: v1::WorkerState::Ready as i32,
        slots: 4,
        registered_at: Some(well_known::Timestamp { seconds: NOW - 600, nanos: 0 }),
        last_seen_at: Some(well_known::Timestamp { seconds: NOW, nanos: 0 }),
        ..v1::Worker::default()
    }
}

/// A job that ended well.
pub(crate) fn job(id: &str, items: u32) -> v1::Job {
    v1::Job {
        id: id.to_owned(),
        model: "echo".into(),
        state: v1::JobState::Succeeded as i32,
        attempts: 1,
        items_total: items,
        items_done: items,
        ..v1::Job::default()
    }
}

/// A part with vectors of two components: the item's number, and its half.
pub(crate) fn vectors(first_item: u32, items: u16) -> v1::ResultPart {
    let first = f32::from(u16::try_from(first_item).unwrap());
    let bytes: Vec<u8> = (0..items)
        .map(|n| first + f32::from(n))
        .flat_map(|number| [number, number / 2.0])
        .flat_map(f32::to_le_bytes)
        .collect();
    let embeddings = v1::Embeddings { dimensions: 2, vectors: bytes.into() };
    v1::ResultPart {
        first_item,
        items: u32::from(items),
        output: Some(v1::result_part::Output::Embeddings(embeddings)),
    }
}
