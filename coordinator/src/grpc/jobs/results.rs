//! The results of a job, part by part.

use std::sync::Arc;

use stoker_core::ids::JobId;
use stoker_core::job::{JobRecord, StateKind};
use stoker_proto::convert;
use stoker_proto::status::{self, Reason};
use stoker_proto::v1;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::context::Context;
use crate::grpc::errors;
use crate::grpc::streams::{self, Sink, Stop, StreamKind};
use crate::store::StoredPart;

/// Parts read from the store at once; each is at least read whole.
const READ_BYTES: usize = 1 << 20;

/// Parts that wait for the client.
const BACKLOG: usize = 1;

/// Stored parts have a gap.
#[derive(Debug, thiserror::Error)]
#[error("the results of job {job} go on at item {found} where {expected} was expected")]
struct Gap {
    job: JobId,
    expected: u32,
    found: u32,
}

pub(super) async fn results(
    context: &Arc<Context>,
    record: &JobRecord,
    first_item: u32,
) -> Result<ReceiverStream<Result<v1::ResultsResponse, Status>>, Status> {
    let (job, total) = (record.job.id, record.job.items_total);
    require_result(record)?;
    if first_item > total {
        let problem = format!("is {first_item}, but the job has {total} items");
        return Err(status::invalid_field("first_item", problem));
    }
    let slot = context.stream_slots.open(StreamKind::Results)?;
    let parts = read(context, job, first_item).await?;
    if parts.is_empty() && first_item < total {
        return Err(removed(job));
    }
    let context = Arc::clone(context);
    let tasks = context.streams.clone();
    Ok(streams::spawn(&tasks, slot, BACKLOG, move |sink| async move {
        let mut next = tell(&sink, job, parts, first_item).await?;
        while next < total {
            let parts = read(&context, job, next).await?;
            if parts.is_empty() {
                return Err(removed(job).into());
            }
            next = tell(&sink, job, parts, next).await?;
        }
        Ok(())
    }))
}

/// Sends the items from `next` on; answers the item after the last.
async fn tell(
    sink: &Sink<v1::ResultsResponse>,
    job: JobId,
    parts: Vec<StoredPart>,
    mut next: u32,
) -> Result<u32, Stop> {
    for part in parts {
        let part = convert::decode_part(part.data).map_err(|error| errors::internal(&error))?;
        let Some(part) = convert::skip_to(part, next) else { continue };
        if part.first_item != next || part.items == 0 {
            let gap = Gap { job, expected: next, found: part.first_item };
            return Err(errors::internal(&gap).into());
        }
        next = next.saturating_add(part.items);
        streams::send(sink, v1::ResultsResponse { part: Some(part) }).await?;
    }
    Ok(next)
}

async fn read(context: &Context, job: JobId, first_item: u32) -> Result<Vec<StoredPart>, Status> {
    context.store.results(job, first_item, READ_BYTES).await.map_err(errors::store)
}

fn require_result(record: &JobRecord) -> Result<(), Status> {
    let (message, remedy) = match record.job.state.kind() {
        StateKind::Succeeded => return Ok(()),
        StateKind::Queued | StateKind::Dispatched | StateKind::Leased | StateKind::RetryWait => {
            ("it has no results yet", "watch it to its end, then ask again")
        }
        StateKind::Failed => ("it failed", "see its failure, then retry it or submit a new job"),
        StateKind::Cancelled => ("it was cancelled", "retry it, or submit a new job"),
        StateKind::Expired => {
            ("its deadline passed before it finished", "retry it, or submit it with more time")
        }
    };
    let subject = format!("job {}", record.job.id);
    Err(status::failed_precondition(Reason::JobNotSucceeded, &subject, message, remedy))
}

fn removed(job: JobId) -> Status {
    status::failed_precondition(
        Reason::DataRemoved,
        &format!("job {job}"),
        "its results were removed when `retention.results` was over",
        "submit the job again",
    )
}
