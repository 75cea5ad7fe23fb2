//! One job with all that decides when it runs.

use stoker_core::dispatch::{Place, TenantQueue, place};
use stoker_core::job::{JobRecord, StateKind, next_due};
use stoker_proto::convert;
use stoker_proto::v1;
use tonic::Status;

use crate::context::{Context, serves};
use crate::dispatcher::tenant_queues;
use crate::grpc::errors;
use crate::grpc::jobs;
use crate::store::{Counts, Lane, TenantScope};

/// Waiting jobs of each tenant that are looked at.
const LOOKED_AT: u32 = 1_000;

pub(super) async fn explain(context: &Context, id: &str) -> Result<v1::ExplainJobResponse, Status> {
    let record = jobs::load(context, TenantScope::All, id).await?;
    let attempts = context.store.attempts(record.job.id).await.map_err(errors::store)?;
    let policy = &context.fleet.job_policy;
    let class = context.fleet.classes.get(&record.class);
    let start_by = class.map(|class| record.job.accepted_at.after(class.max_wait));
    let waits = matches!(
        record.job.state.kind(),
        StateKind::Queued | StateKind::Dispatched | StateKind::RetryWait
    );
    let queue = if waits { Some(queue(context, &record).await?) } else { None };
    Ok(v1::ExplainJobResponse {
        job: Some(convert::job(&record)),
        attempts: attempts.iter().map(convert::attempt_record).collect(),
        observed_at: Some(convert::wire_timestamp(context.now())),
        start_by: start_by.map(convert::wire_timestamp),
        next_due: next_due(&record.job, &policy.lease).map(convert::wire_timestamp),
        max_failures: policy.retry.max_failures,
        max_crashes: policy.retry.max_crashes,
        max_lost_workers: policy.retry.max_lost_workers,
        queue,
    })
}

async fn queue(context: &Context, record: &JobRecord) -> Result<v1::JobQueue, Status> {
    let lane = Lane { pool: record.pool.clone(), model: record.model.clone() };
    let counts = context.store.counts();
    let slots = context.registry.slots(&lane);
    let problem = context.broker.problem().or_else(|| context.aside.problem(&lane));
    let place = if record.job.state.kind() == StateKind::Queued {
        let waiting =
            context.store.waiting(lane.clone(), LOOKED_AT).await.map_err(errors::store)?;
        let tenants: Vec<TenantQueue> = tenant_queues(&context.fleet, waiting);
        place(record.job.id, &tenants, LOOKED_AT as usize)
    } else {
        Place::default()
    };
    Ok(v1::JobQueue {
        slots,
        workers_starting: u32::try_from(context.registry.starting(&lane)).unwrap_or(u32::MAX),
        window: context.throughput.window(&lane, slots),
        in_flight: counts.of_lane(&lane).in_flight(),
        broker_problem: problem.unwrap_or_default(),
        unserved: !serves(&context.fleet, &lane),
        shares: shares(context, &lane, &counts),
        ahead: place
            .ahead
            .iter()
            .map(|(tenant, jobs)| v1::JobsAhead { tenant: tenant.to_string(), jobs: *jobs })
            .collect(),
        ahead_at_least: place.at_least,
    })
}

fn shares(context: &Context, lane: &Lane, counts: &Counts) -> Vec<v1::QueueShare> {
    let of_lane = counts.0.iter().filter(|((of, _, _), counts)| {
        of == lane && (counts.get(StateKind::Queued) > 0 || counts.in_flight() > 0)
    });
    of_lane
        .map(|((_, tenant, class), counts)| v1::QueueShare {
            tenant: tenant.to_string(),
            class: class.to_string(),
            weight: context.fleet.tenants.get(tenant).map_or(1, |known| known.weight),
            queued: counts.get(StateKind::Queued),
            in_flight: counts.in_flight(),
        })
        .collect()
}
