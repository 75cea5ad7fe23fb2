//! Jobs as they change: the present state at once, then every change, until all have ended.

mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stoker_core::ids::JobId;
use stoker_core::job::JobRecord;
use stoker_core::request::Task;
use stoker_proto::convert;
use stoker_proto::status::{self, Resource};
use stoker_proto::v1;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::context::Context;
use crate::grpc::errors;
use crate::grpc::streams::{self, Stop, StreamKind};
use crate::store::TenantScope;
use crate::texts::Reader;
use crate::watch::Watcher;

use told::Told;

const MAX_JOBS: usize = 1_000;

/// Messages that wait for the client; further changes are coalesced in the hub, and texts in what is known of them.
const BACKLOG: usize = 64;

pub(super) async fn watch(
    context: &Arc<Context>,
    scope: TenantScope,
    request: &v1::WatchRequest,
) -> Result<ReceiverStream<Result<v1::WatchResponse, Status>>, Status> {
    let jobs = convert::job_ids(&request.job_ids, "job_ids", MAX_JOBS)
        .map_err(|violations| status::invalid(&violations))?;
    let kind = if request.texts { StreamKind::WatchTexts } else { StreamKind::Watch };
    let slot = context.stream_slots.open(kind)?;
    // Before the first reading, so that no change falls between the two.
    let watcher = context.hub.subscribe(&jobs);
    let records = read(context, &scope, jobs.clone()).await?;
    if let Some(missing) = jobs.iter().find(|job| !records.contains_key(job)) {
        return Err(status::not_found(Resource::Job, missing));
    }
    // Of jobs that are known to be the caller's.
    let reader = request.texts.then(|| context.texts.read(&generating(&records)));
    let context = Arc::clone(context);
    let tasks = context.streams.clone();
    Ok(streams::spawn(&tasks, slot, BACKLOG, move |sink| async move {
        let mut told = Told::new(sink, reader);
        for record in records.values() {
            told.state(&context, record).await?;
        }
        follow(&context, &scope, &watcher, told).await
    }))
}

/// Those that texts are generated for, and that have not ended.
fn generating(records: &BTreeMap<JobId, JobRecord>) -> Vec<JobId> {
    let generates = |record: &&JobRecord| {
        record.task == Task::TextGeneration && !record.job.state.is_terminal()
    };
    records.values().filter(generates).map(|record| record.job.id).collect()
}

/// Tells changes until no job is open.
async fn follow(
    context: &Context,
    scope: &TenantScope,
    watcher: &Watcher,
    mut told: Told,
) -> Result<(), Stop> {
    while told.is_any_open() {
        // All of them are cancel-safe.
        tokio::select! {
            changed = watcher.changed() => {
                let changed: Vec<JobId> =
                    changed.into_iter().filter(|job| told.is_open(*job)).collect();
                if changed.is_empty() {
                    continue;
                }
                let records = read(context, scope, changed.clone()).await?;
                for job in changed {
                    match records.get(&job) {
                        Some(record) => told.state(context, record).await?,
                        // Retention removed it: it had ended, and its end was told.
                        None => told.leave(job),
                    }
                }
            }
            jobs = more(told.reader()) => told.unread(jobs),
            place = told.place() => {
                let place = place?;
                told.text(place);
            }
        }
    }
    Ok(())
}

/// The jobs of which more was generated, for whoever reads along.
async fn more(reader: Option<&Reader>) -> BTreeSet<JobId> {
    match reader {
        Some(reader) => reader.changed().await,
        None => std::future::pending().await,
    }
}

async fn read(
    context: &Context,
    scope: &TenantScope,
    jobs: Vec<JobId>,
) -> Result<BTreeMap<JobId, JobRecord>, Status> {
    let records = context.store.get_many(scope.clone(), jobs).await.map_err(errors::store)?;
    Ok(records.into_iter().map(|record| (record.job.id, record)).collect())
}
