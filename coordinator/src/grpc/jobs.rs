//! `JobService`: what clients of the fleet use. Every call sees its tenant's jobs only.

pub(super) mod list;
mod results;
pub(super) mod submit;
mod waiting;
mod watch;

use std::sync::Arc;

use stoker_core::fleet::{Fleet, Model};
use stoker_core::ids::{JobId, ModelName};
use stoker_core::job::{JobRecord, StateKind};
use stoker_proto::convert;
use stoker_proto::status::{self, Reason, Resource};
use stoker_proto::v1;
use stoker_proto::v1::job_service_server::JobService;
use stoker_runtime::{crash, ids};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::context::Context;
use crate::store::{Cancelled, Retried, TenantScope};

use super::errors;
use super::tenant::tenant;

/// The service; a thin layer of checks over the store.
#[derive(Debug)]
pub(super) struct Jobs {
    context: Arc<Context>,
}

impl Jobs {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn scope(&self, metadata: &MetadataMap) -> Result<TenantScope, Status> {
        tenant(metadata, &self.context.fleet).map(TenantScope::Only)
    }
}

#[tonic::async_trait]
impl JobService for Jobs {
    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let caller = submit::Caller::of(&request, &self.context.fleet)?;
        let spec = convert::required(request.into_inner().job, "job")
            .map_err(|violation| status::invalid(&[violation]))?;
        let mut submitted =
            submit::submit(&self.context, caller, vec![spec], submit::Form::Single).await?;
        submitted
            .pop()
            .map(Response::new)
            .ok_or_else(|| errors::internal(&submit::WrongCount { asked: 1, answered: 0 }))
    }

    async fn submit_batch(
        &self,
        request: Request<v1::SubmitBatchRequest>,
    ) -> Result<Response<v1::SubmitBatchResponse>, Status> {
        let caller = submit::Caller::of(&request, &self.context.fleet)?;
        let specs = request.into_inner().jobs;
        let jobs = submit::submit(&self.context, caller, specs, submit::Form::Batch).await?;
        Ok(Response::new(v1::SubmitBatchResponse { jobs }))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let scope = self.scope(request.metadata())?;
        let record = load(&self.context, scope, &request.get_ref().job_id).await?;
        let waiting_for = waiting::waiting_for(&self.context, &record);
        let job = Some(convert::job(&record));
        Ok(Response::new(v1::GetResponse { job, waiting_for }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let scope = self.scope(request.metadata())?;
        list::list(&self.context, scope, request.into_inner()).await.map(Response::new)
    }

    type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let scope = self.scope(request.metadata())?;
        watch::watch(&self.context, scope, &request.into_inner()).await.map(Response::new)
    }

    type ResultsStream = ReceiverStream<Result<v1::ResultsResponse, Status>>;

    async fn results(
        &self,
        request: Request<v1::ResultsRequest>,
    ) -> Result<Response<Self::ResultsStream>, Status> {
        let scope = self.scope(request.metadata())?;
        let v1::ResultsRequest { job_id, first_item } = request.into_inner();
        let record = load(&self.context, scope, &job_id).await?;
        results::results(&self.context, &record, first_item).await.map(Response::new)
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        let scope = self.scope(request.metadata())?;
        let job = job_id(&request.get_ref().job_id)?;
        let cancel = crash::around("cancel", self.context.store.cancel(scope, job));
        let record = match cancel.await.map_err(errors::store)? {
            Cancelled::Done(record) => record,
            Cancelled::EndedBefore(record) => {
                return Err(status::failed_precondition(
                    Reason::JobEnded,
                    &format!("job {job}"),
                    format!("it has ended already: {}", state_text(record.job.state.kind())),
                    "there is nothing left to cancel",
                ));
            }
            Cancelled::Unknown => return Err(status::not_found(Resource::Job, job)),
        };
        Ok(Response::new(v1::CancelResponse { job: Some(convert::job(&record)) }))
    }

    async fn retry(
        &self,
        request: Request<v1::RetryRequest>,
    ) -> Result<Response<v1::RetryResponse>, Status> {
        let tenant = tenant(request.metadata(), &self.context.fleet)?;
        let job = job_id(&request.get_ref().job_id)?;
        let scope = TenantScope::Only(tenant.clone());
        if let Err(shed) = submit::admit(&self.context, &tenant, 1) {
            // A repetition needs no room: its job is in already.
            let record = load(&self.context, scope.clone(), &request.get_ref().job_id).await?;
            record.retried_as.ok_or(shed)?;
        }
        let record = retry(&self.context, scope, job).await?;
        Ok(Response::new(v1::RetryResponse { job: Some(convert::job(&record)) }))
    }

    async fn list_models(
        &self,
        request: Request<v1::ListModelsRequest>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        tenant(request.metadata(), &self.context.fleet)?;
        let models = models(&self.context.fleet);
        Ok(Response::new(v1::ListModelsResponse { models }))
    }
}

fn models(fleet: &Fleet) -> Vec<v1::Model> {
    let model = |(name, model): (&ModelName, &Model)| v1::Model {
        name: name.to_string(),
        task: convert::task(model.task).into(),
        pool: model.pool.to_string(),
    };
    fleet.models.iter().map(model).collect()
}

/// Starts a new job with the input of `job`, or answers the one that was started before.
pub(super) async fn retry(
    context: &Context,
    scope: TenantScope,
    job: JobId,
) -> Result<JobRecord, Status> {
    let new_id = ids::job_id(context.now());
    let subject = format!("job {job}");
    let retry = crash::around("retry", context.store.retry(scope, job, new_id));
    match retry.await.map_err(errors::store)? {
        Retried::As(record) => Ok(record),
        Retried::NotRetryable(record) => {
            let state = record.job.state.kind();
            let remedy = if state.is_terminal() {
                "read its results, or submit a new job"
            } else {
                "wait for its end, or cancel it first"
            };
            let message = format!("it did not end without a result: {}", state_text(state));
            Err(status::failed_precondition(Reason::JobNotRetryable, &subject, message, remedy))
        }
        Retried::InputGone(_) => Err(status::failed_precondition(
            Reason::DataRemoved,
            &subject,
            "its input was removed when `retention.results` was over",
            "submit it again with its input",
        )),
        Retried::Unknown => Err(status::not_found(Resource::Job, job)),
    }
}

pub(super) fn job_id(text: &str) -> Result<JobId, Status> {
    convert::job_id(text, "job_id").map_err(|violation| status::invalid(&[violation]))
}

pub(super) async fn load(
    context: &Context,
    scope: TenantScope,
    id: &str,
) -> Result<JobRecord, Status> {
    let job = job_id(id)?;
    let record = context.store.get(scope, job).await.map_err(errors::store)?;
    record.ok_or_else(|| status::not_found(Resource::Job, job))
}

/// A state in a sentence that begins with the job.
const fn state_text(state: StateKind) -> &'static str {
    match state {
        StateKind::Queued => "it is queued",
        StateKind::Dispatched => "it is released to the queue",
        StateKind::Leased => "it is running",
        StateKind::RetryWait => "it waits for its next attempt",
        StateKind::Succeeded => "it succeeded",
        StateKind::Failed => "it failed",
        StateKind::Cancelled => "it was cancelled",
        StateKind::Expired => "its deadline passed",
    }
}
