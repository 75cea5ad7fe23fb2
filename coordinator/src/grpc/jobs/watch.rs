//! Jobs as they change: the present state at once, then every change, until all have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stoker_core::ids::JobId;
use stoker_core::job::JobRecord;
use stoker_proto::convert;
use stoker_proto::status::{self, Resource};
use stoker_proto::v1;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::context::Context;
use crate::grpc::errors;
use crate::grpc::streams::{self, Sink, Stop, StreamKind};
use crate::store::TenantScope;
use crate::watch::Watcher;

const MAX_JOBS: usize = 1_000;

/// Messages that wait for the client; further changes are coalesced in the hub.
const BACKLOG: usize = 64;

pub(super) async fn watch(
    context: &Arc<Context>,
    scope: TenantScope,
    ids: &[String],
) -> Result<ReceiverStream<Result<v1::WatchResponse, Status>>, Status> {
    let jobs = convert::job_ids(ids, "job_ids", MAX_JOBS)
        .map_err(|violations| status::invalid(&violations))?;
    let slot = context.stream_slots.open(StreamKind::Watch)?;
    // Before the first reading, so that no change falls between the two.
    let watcher = context.hub.subscribe(&jobs);
    let records = read(context, &scope, jobs.clone()).await?;
    if let Some(missing) = jobs.iter().find(|job| !records.contains_key(job)) {
        return Err(status::not_found(Resource::Job, missing));
    }
    let context = Arc::clone(context);
    let tasks = context.streams.clone();
    Ok(streams::spawn(&tasks, slot, BACKLOG, move |sink| async move {
        let snapshot = jobs.iter().collect::<BTreeSet<_>>();
        let snapshot = snapshot.into_iter().filter_map(|job| records.get(job));
        let mut open = BTreeSet::new();
        for record in snapshot {
            tell(&sink, record, &mut open).await?;
        }
        follow(&context, &scope, &watcher, open, sink).await
    }))
}

/// Tells changes until no job is open.
async fn follow(
    context: &Context,
    scope: &TenantScope,
    watcher: &Watcher,
    mut open: BTreeSet<JobId>,
    sink: Sink<v1::WatchResponse>,
) -> Result<(), Stop> {
    while !open.is_empty() {
        let changed: Vec<JobId> =
            watcher.changed().await.into_iter().filter(|job| open.contains(job)).collect();
        if changed.is_empty() {
            continue;
        }
        let records = read(context, scope, changed.clone()).await?;
        for job in changed {
            match records.get(&job) {
                Some(record) => tell(&sink, record, &mut open).await?,
                // Retention removed it: it had ended, and its end was told.
                None => {
                    open.remove(&job);
                }
            }
        }
    }
    Ok(())
}

/// Sends one job's state and notes whether more is to come.
async fn tell(
    sink: &Sink<v1::WatchResponse>,
    record: &JobRecord,
    open: &mut BTreeSet<JobId>,
) -> Result<(), Stop> {
    if record.job.state.is_terminal() {
        open.remove(&record.job.id);
    } else {
        open.insert(record.job.id);
    }
    let job = Some(convert::job(record));
    streams::send(sink, v1::WatchResponse { job }).await?;
    Ok(())
}

async fn read(
    context: &Context,
    scope: &TenantScope,
    jobs: Vec<JobId>,
) -> Result<BTreeMap<JobId, JobRecord>, Status> {
    let records = context.store.get_many(scope.clone(), jobs).await.map_err(errors::store)?;
    Ok(records.into_iter().map(|record| (record.job.id, record)).collect())
}
