//! The fake coordinator as a gRPC server: worker service and embedded queue on one port.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::{Stream, StreamExt};
use stoker_broker::{EmbeddedBroker, EmbeddedLimits, Hint, Publisher, Queue, Subscriber};
use stoker_core::ids::{DispatchSeq, JobId, ModelName, PoolName};
use stoker_proto::v1;
use stoker_proto::v1::queue_service_server::{QueueService, QueueServiceServer};
use stoker_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use stoker_runtime::tasks::Tasks;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::world::{ClaimFault, World};

pub(crate) const FLEET: &str = "test";
pub(crate) const POOL: &str = "default";
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(50);

type Commands = mpsc::Sender<Result<v1::RegisterResponse, Status>>;

/// Clones are the same coordinator.
#[derive(Clone)]
pub(crate) struct Fake {
    world: Arc<Mutex<World>>,
    commands: Arc<Mutex<Vec<Commands>>>,
    pub(crate) broker: EmbeddedBroker,
    pub(crate) tasks: Tasks,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            world: Arc::default(),
            commands: Arc::default(),
            broker: EmbeddedBroker::new(EmbeddedLimits::default()),
            tasks: Tasks::new(CancellationToken::new()),
        }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Serves on a free port until `stop`.
    pub(crate) async fn serve(&self, stop: CancellationToken) -> SocketAddr {
        self.serve_at("127.0.0.1:0".parse().unwrap(), stop).await
    }

    pub(crate) async fn serve_at(&self, at: SocketAddr, stop: CancellationToken) -> SocketAddr {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(WorkerServiceServer::new(self.clone()).max_decoding_message_size(64 << 20))
            .add_service(QueueServiceServer::new(self.clone()));
        self.tasks.spawn("fake-coordinator", async move {
            let incoming = TcpListenerStream::new(listener);
            stop.run_until_cancelled(server.serve_with_incoming(incoming)).await
        });
        address
    }

    pub(crate) fn queue(model: &str) -> Queue {
        Queue { pool: PoolName::new(POOL).unwrap(), model: ModelName::new(model).unwrap() }
    }

    /// Adds a job and puts a hint for it into the queue.
    pub(crate) async fn submit(&self, model: &str, texts: &[&str]) -> JobId {
        let job = self.add(model, texts);
        self.dispatch(job).await;
        job
    }

    pub(crate) fn add(&self, model: &str, texts: &[&str]) -> JobId {
        let id = JobId::from_bytes(*stoker_runtime::ids::claim_id().as_bytes());
        let job = crate::world::Job {
            model: model.to_owned(),
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
            ..Default::default()
        };
        self.world().jobs.insert(id.to_string(), job);
        id
    }

    /// Releases the job to the queue, once more if it was before.
    pub(crate) async fn dispatch(&self, job: JobId) {
        let (seq, model) = {
            let mut world = self.world();
            world.job_mut(job).seq += 1;
            (world.seq(job), world.job(job).model.clone())
        };
        self.publish(job, seq, &model).await;
    }

    pub(crate) async fn publish(&self, job: JobId, seq: DispatchSeq, model: &str) {
        let queue = Self::queue(model);
        self.broker.declare(std::slice::from_ref(&queue)).await.unwrap();
        let hint = Hint { job, seq, queue, trace: Vec::new() };
        self.broker.publish(vec![hint]).await.remove(0).unwrap();
    }

    /// Sends a command down every open registration.
    pub(crate) async fn command(&self, command: v1::register_response::Command) {
        let senders = self.commands.lock().unwrap().clone();
        for sender in senders {
            let message = v1::RegisterResponse { command: Some(command.clone()) };
            // A worker that is gone gets no commands.
            let _ = sender.send(Ok(message)).await;
        }
    }
}

fn away() -> Status {
    Status::unavailable("away on request")
}

#[tonic::async_trait]
impl WorkerService for Fake {
    type RegisterStream = ReceiverStream<Result<v1::RegisterResponse, Status>>;

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let request = request.into_inner();
        if request.pool != POOL {
            return Err(Status::invalid_argument(format!("pool: there is no `{}`", request.pool)));
        }
        {
            let mut world = self.world();
            world.registrations.push(request);
            if world.faults.refuse_registrations > 0 {
                world.faults.refuse_registrations -= 1;
                return Err(Status::permission_denied("the machine is none of this fleet's"));
            }
        }
        let (commands, receiver) = mpsc::channel(16);
        let registered = v1::Registered {
            fleet: FLEET.to_owned(),
            heartbeat_interval: Some(HEARTBEAT.try_into().unwrap()),
            lease: Some(Duration::from_secs(30).try_into().unwrap()),
            max_message_bytes: 3 << 20,
        };
        let command = Some(v1::register_response::Command::Registered(registered));
        commands.try_send(Ok(v1::RegisterResponse { command })).unwrap();
        self.commands.lock().unwrap().push(commands);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn claim(
        &self,
        request: Request<v1::ClaimRequest>,
    ) -> Result<Response<v1::ClaimResponse>, Status> {
        let mut world = self.world();
        let claims = request.into_inner().claims;
        world.saw_claims(&claims);
        match world.faults.claims {
            ClaimFault::Answered => {}
            ClaimFault::Away => return Err(away()),
            ClaimFault::Refused => return Err(Status::failed_precondition("claims: not from you")),
        }
        world.claim_calls.push(claims.len());
        let outcomes = claims.iter().map(|claim| world.claim(claim)).collect();
        if world.faults.lose_claim_answers > 0 {
            world.faults.lose_claim_answers -= 1;
            return Err(away());
        }
        Ok(Response::new(v1::ClaimResponse { outcomes }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let mut world = self.world();
        let request = request.into_inner();
        world.heartbeats += 1;
        if request.status.is_some() {
            world.last_status = request.status;
        }
        let outcomes = request.attempts.iter().map(|attempt| world.heartbeat(attempt).into());
        let outcomes = outcomes.collect();
        let register_again = std::mem::take(&mut world.faults.register_again);
        Ok(Response::new(v1::HeartbeatResponse { outcomes, register_again }))
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let mut world = self.world();
        world.complete_calls += 1;
        if world.faults.completes_away {
            return Err(away());
        }
        let completions = request.into_inner().completions;
        if let Some(text) = world.faults.refuse_text.clone() {
            let id = |c: &v1::Completion| c.fence.as_ref().unwrap().job_id.clone();
            if completions.iter().any(|c| world.jobs[&id(c)].texts.contains(&text)) {
                return Err(Status::invalid_argument("completions: one is not acceptable"));
            }
        }
        let outcomes =
            completions.iter().map(|completion| world.complete(completion).into()).collect();
        if world.faults.lose_complete_answers > 0 {
            world.faults.lose_complete_answers -= 1;
            return Err(away());
        }
        Ok(Response::new(v1::CompleteResponse { outcomes }))
    }

    async fn fail(
        &self,
        request: Request<v1::FailRequest>,
    ) -> Result<Response<v1::FailResponse>, Status> {
        let mut world = self.world();
        let failures = request.into_inner().failures;
        let outcomes = failures.iter().map(|failure| world.fail(failure).into()).collect();
        Ok(Response::new(v1::FailResponse { outcomes }))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let mut world = self.world();
        let releases = request.into_inner().releases;
        let outcomes = releases.iter().map(|release| world.release(release).into()).collect();
        Ok(Response::new(v1::ReleaseResponse { outcomes }))
    }

    /// Nobody watches.
    async fn tell(
        &self,
        request: Request<v1::TellRequest>,
    ) -> Result<Response<v1::TellResponse>, Status> {
        let outcomes = vec![v1::Told::default(); request.into_inner().attempts.len()];
        Ok(Response::new(v1::TellResponse { outcomes }))
    }
}

#[tonic::async_trait]
impl QueueService for Fake {
    type ConsumeStream = Pin<Box<dyn Stream<Item = Result<v1::ConsumeResponse, Status>> + Send>>;

    async fn consume(
        &self,
        request: Request<Streaming<v1::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|message| message.request);
        let Some(v1::consume_request::Request::Open(open)) = first else {
            return Err(Status::invalid_argument("the first request must open a consumer"));
        };
        let queue = Self::queue(&open.model);
        let prefetch = u16::try_from(open.prefetch).unwrap();
        if self.world().faults.refuse_consumers {
            return Err(Status::failed_precondition("consumers: not today"));
        }
        let consumer = self.broker.subscribe(&queue, prefetch).await;
        let consumer = consumer.map_err(|error| Status::not_found(error.to_string()))?;
        let (out, deliveries) = mpsc::channel(1_000);
        self.tasks.spawn("fake-queue", relay(consumer, requests, out));
        Ok(Response::new(ReceiverStream::new(deliveries).boxed()))
    }
}

async fn relay(
    mut consumer: Box<dyn stoker_broker::Consumer>,
    mut requests: Streaming<v1::ConsumeRequest>,
    out: mpsc::Sender<Result<v1::ConsumeResponse, Status>>,
) {
    let mut ackers = std::collections::BTreeMap::new();
    let mut next_tag = 0;
    loop {
        tokio::select! {
            delivery = consumer.next() => {
                let Ok(delivery) = delivery else { return };
                next_tag += 1;
                ackers.insert(next_tag, delivery.acker);
                let message = v1::ConsumeResponse {
                    tag: next_tag,
                    job_id: delivery.hint.job.to_string(),
                    dispatch_seq: delivery.hint.seq.number(),
                    redelivered: delivery.redelivered,
                    trace: delivery.hint.trace.into_iter().collect(),
                };
                if out.send(Ok(message)).await.is_err() {
                    return;
                }
            }
            request = requests.message() => match request {
                Ok(Some(v1::ConsumeRequest {
                    request: Some(v1::consume_request::Request::Settle(settle)),
                })) => {
                    let acker = ackers.remove(&settle.tag).expect("settled once");
                    let settled = if settle.ack { acker.ack().await } else { acker.reject().await };
                    settled.expect("the consumer is there");
                }
                _ => return,
            },
        }
    }
}
