//! `AdminService`: what operators use. It sees the jobs of all tenants.

mod dead_letters;
mod demand;
mod explain;
mod queues;
mod usage;
mod view;

use std::sync::Arc;

use stoker_core::ids::WorkerId;
use stoker_core::job::StateKind;
use stoker_proto::convert;
use stoker_proto::status::{self, Resource};
use stoker_proto::v1;
use stoker_proto::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status};

use crate::context::Context;
use crate::registry::{Cordon, Registry, WorkerState, WorkerView};
use crate::store::WorkerOrder;

use super::errors;

/// The service.
#[derive(Debug)]
pub(super) struct Admin {
    context: Arc<Context>,
}

impl Admin {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Orders a worker, wherever its stream is, and answers what is known of it.
    async fn order(
        &self,
        worker: WorkerId,
        order: WorkerOrder,
        here: impl FnOnce(&Registry) -> Option<WorkerView> + Send,
    ) -> Result<WorkerView, Status> {
        let elsewhere = self.context.store.order_worker(worker, order).await;
        let elsewhere = elsewhere.map_err(errors::store)?;
        let own = here(&self.context.registry);
        if let Some(view) = own.filter(|view| view.state != WorkerState::Lost || !elsewhere) {
            return Ok(view);
        }
        let known = self.context.registry.list().into_iter();
        let mut known = known.filter(|view| view.registration.id == worker);
        known.next().ok_or_else(|| status::not_found(Resource::Worker, worker))
    }

    /// The workers with their leases, which must be read after the views were made: a job that is granted
    /// in between is a lease then.
    async fn with_leases(&self, views: Vec<WorkerView>) -> Result<Vec<v1::Worker>, Status> {
        let leases = self.context.store.leases().await.map_err(errors::store)?;
        let of = |view: &WorkerView| leases.get(&view.registration.id).copied().unwrap_or(0);
        let worker = |view: WorkerView| {
            let leases = of(&view);
            view::worker(view, leases)
        };
        Ok(views.into_iter().map(worker).collect())
    }

    async fn fleet_status(&self) -> Result<v1::FleetStatusResponse, Status> {
        let context = &self.context;
        let counts = context.store.counts().total();
        let workers = context.registry.list();
        let ready = workers.iter().filter(|worker| worker.state == WorkerState::Ready).count();
        let present = workers.iter().filter(|worker| worker.state != WorkerState::Lost).count();
        let outbox = context.store.outbox_len().await.map_err(errors::store)?;
        let now = context.now();
        Ok(v1::FleetStatusResponse {
            fleet: context.fleet.name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store: context.store.name().to_owned(),
            broker: context.broker.name(),
            broker_problem: context.broker.problem().unwrap_or_default(),
            jobs: StateKind::ALL
                .into_iter()
                .map(|kind| v1::StateCount {
                    state: convert::state(kind).into(),
                    jobs: counts.get(kind),
                })
                .collect(),
            workers_ready: u32::try_from(ready).unwrap_or(u32::MAX),
            workers_total: u32::try_from(present).unwrap_or(u32::MAX),
            dead_letters: dead_letters::count(context).await?,
            observed_at: Some(convert::wire_timestamp(now)),
            uptime: Some(convert::wire_duration(now.since(context.started_at))),
            outbox,
            classes: context.fleet.classes.iter().map(view::class).collect(),
            free_disk_bytes: context.store.free_disk(),
            min_free_disk_bytes: context.fleet.limits.min_free_disk_bytes,
            identity_check: context.identity.as_ref().map(view::identity_check),
            changes_need_token: context.access.is_guarded(),
        })
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn fleet_status(
        &self,
        _: Request<v1::FleetStatusRequest>,
    ) -> Result<Response<v1::FleetStatusResponse>, Status> {
        Self::fleet_status(self).await.map(Response::new)
    }

    async fn list_queues(
        &self,
        _: Request<v1::ListQueuesRequest>,
    ) -> Result<Response<v1::ListQueuesResponse>, Status> {
        let queues = queues::list(&self.context).await?;
        Ok(Response::new(v1::ListQueuesResponse { queues }))
    }

    async fn observe_demand(
        &self,
        request: Request<v1::ObserveDemandRequest>,
    ) -> Result<Response<v1::ObserveDemandResponse>, Status> {
        demand::observe(&self.context, &request.into_inner()).await.map(Response::new)
    }

    async fn observe_usage(
        &self,
        request: Request<v1::ObserveUsageRequest>,
    ) -> Result<Response<v1::ObserveUsageResponse>, Status> {
        usage::observe(&self.context, &request.into_inner()).await.map(Response::new)
    }

    async fn explain_job(
        &self,
        request: Request<v1::ExplainJobRequest>,
    ) -> Result<Response<v1::ExplainJobResponse>, Status> {
        explain::explain(&self.context, &request.get_ref().job_id).await.map(Response::new)
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let now = self.context.now();
        let complete_since = self.context.registry.complete_since();
        let workers = self.with_leases(self.context.registry.list()).await?;
        Ok(Response::new(v1::ListWorkersResponse {
            workers,
            observed_at: Some(convert::wire_timestamp(now)),
            complete_since: Some(convert::wire_timestamp(complete_since)),
        }))
    }

    async fn cordon_worker(
        &self,
        request: Request<v1::CordonWorkerRequest>,
    ) -> Result<Response<v1::CordonWorkerResponse>, Status> {
        let v1::CordonWorkerRequest { worker_id, cordoned } = request.into_inner();
        let worker = view::worker_id(&worker_id)?;
        let (cordon, order) = if cordoned {
            (Cordon::Set, WorkerOrder::Cordon)
        } else {
            (Cordon::Lifted, WorkerOrder::Uncordon)
        };
        let view = self.order(worker, order, |registry| registry.cordon(worker, cordon)).await?;
        tracing::info!(%worker, cordoned, "an operator set a worker's cordon");
        self.context.events.dispatcher.notify_one();
        let worker = self.with_leases(vec![view]).await?.pop();
        Ok(Response::new(v1::CordonWorkerResponse { worker }))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        let v1::DrainWorkerRequest { worker_id, within } = request.into_inner();
        let worker = view::worker_id(&worker_id)?;
        let within = within
            .map(|within| convert::duration(&within, "within"))
            .transpose()
            .map_err(|violation| status::invalid(&[violation]))?;
        let order = WorkerOrder::Drain(within);
        let view = self.order(worker, order, |registry| registry.drain(worker, within)).await?;
        tracing::info!(%worker, ?within, "an operator drains a worker");
        let worker = self.with_leases(vec![view]).await?.pop();
        Ok(Response::new(v1::DrainWorkerResponse { worker }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<v1::ListDeadLettersRequest>,
    ) -> Result<Response<v1::ListDeadLettersResponse>, Status> {
        dead_letters::list(&self.context, &request.into_inner()).await.map(Response::new)
    }

    async fn get_dead_letter(
        &self,
        request: Request<v1::GetDeadLetterRequest>,
    ) -> Result<Response<v1::GetDeadLetterResponse>, Status> {
        dead_letters::get(&self.context, &request.get_ref().job_id).await.map(Response::new)
    }

    async fn redrive_dead_letters(
        &self,
        request: Request<v1::RedriveDeadLettersRequest>,
    ) -> Result<Response<v1::RedriveDeadLettersResponse>, Status> {
        let jobs = dead_letters::redrive(&self.context, &request.get_ref().job_ids).await?;
        Ok(Response::new(v1::RedriveDeadLettersResponse { jobs }))
    }

    async fn discard_dead_letters(
        &self,
        request: Request<v1::DiscardDeadLettersRequest>,
    ) -> Result<Response<v1::DiscardDeadLettersResponse>, Status> {
        let discarded = dead_letters::discard(&self.context, &request.get_ref().job_ids).await?;
        Ok(Response::new(v1::DiscardDeadLettersResponse { discarded }))
    }
}
