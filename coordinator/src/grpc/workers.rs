//! `WorkerService`: what workers use. Every call is safe to repeat.

mod attempts;
mod claim;
mod register;
mod tell;

use std::sync::Arc;

use stoker_core::ids::WorkerId;
use stoker_proto::convert;
use stoker_proto::status;
use stoker_proto::v1;
use stoker_proto::v1::worker_service_server::WorkerService;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::context::Context;
use crate::registry::Heard;

/// The service.
#[derive(Debug)]
pub(super) struct Workers {
    context: Arc<Context>,
}

impl Workers {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl WorkerService for Workers {
    type RegisterStream = ReceiverStream<Result<v1::RegisterResponse, Status>>;

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        register::register(&self.context, request.into_inner()).await.map(Response::new)
    }

    async fn claim(
        &self,
        request: Request<v1::ClaimRequest>,
    ) -> Result<Response<v1::ClaimResponse>, Status> {
        claim::claim(&self.context, request.into_inner()).await.map(Response::new)
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let v1::HeartbeatRequest { worker_id, attempts, status } = request.into_inner();
        let worker = worker(&worker_id)?;
        let now = self.context.now();
        let report = status.as_ref().map(|status| register::report(status, now)).transpose()?;
        let heard = self.context.registry.heard(worker, report);
        if heard == (Heard::Known { gained_capacity: true }) {
            self.context.events.dispatcher.notify_one();
        }
        // Fences prove the right to an attempt, whether the worker is registered or not.
        let outcomes = attempts::heartbeat(&self.context, attempts).await?;
        Ok(Response::new(v1::HeartbeatResponse {
            outcomes,
            register_again: heard == Heard::Unknown,
        }))
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let v1::CompleteRequest { worker_id, completions } = request.into_inner();
        self.context.registry.heard(worker(&worker_id)?, None);
        let outcomes = attempts::complete(&self.context, completions).await?;
        Ok(Response::new(v1::CompleteResponse { outcomes }))
    }

    async fn fail(
        &self,
        request: Request<v1::FailRequest>,
    ) -> Result<Response<v1::FailResponse>, Status> {
        let v1::FailRequest { worker_id, failures } = request.into_inner();
        self.context.registry.heard(worker(&worker_id)?, None);
        let outcomes = attempts::fail(&self.context, &failures).await?;
        Ok(Response::new(v1::FailResponse { outcomes }))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let v1::ReleaseRequest { worker_id, releases } = request.into_inner();
        self.context.registry.heard(worker(&worker_id)?, None);
        let outcomes = attempts::release(&self.context, releases).await?;
        Ok(Response::new(v1::ReleaseResponse { outcomes }))
    }

    async fn tell(
        &self,
        request: Request<v1::TellRequest>,
    ) -> Result<Response<v1::TellResponse>, Status> {
        let v1::TellRequest { worker_id, attempts } = request.into_inner();
        worker(&worker_id)?;
        let outcomes = tell::tell(&self.context, &attempts).await?;
        Ok(Response::new(v1::TellResponse { outcomes }))
    }
}

fn worker(text: &str) -> Result<WorkerId, Status> {
    convert::worker_id(text, "worker_id").map_err(|violation| status::invalid(&[violation]))
}
