//! The results of a job, part by part.

use std::collections::VecDeque;
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
use crate::grpc::streams::{self, StreamKind};
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
    let mut parts = Parts::new(job, total, first_item);
    let first = parts.next(context).await?;
    if !parts.are_over() && first.is_none() {
        return Err(removed(job));
    }
    let context = Arc::clone(context);
    let tasks = context.streams.clone();
    Ok(streams::spawn(&tasks, slot, BACKLOG, move |sink| async move {
        let mut next = first;
        while let Some(part) = next {
            streams::send(&sink, v1::ResultsResponse { part: Some(part) }).await?;
            next = parts.next(&context).await?;
        }
        if parts.are_over() { Ok(()) } else { Err(removed(job).into()) }
    }))
}

/// A job's stored results, part by part.
#[derive(Debug)]
pub(super) struct Parts {
    job: JobId,
    /// The item after the last that was given.
    next: u32,
    total: u32,
    read: VecDeque<StoredPart>,
}

impl Parts {
    /// Those of a job with `total` items, from `first_item` on.
    pub(super) const fn new(job: JobId, total: u32, first_item: u32) -> Self {
        Self { job, next: first_item, total, read: VecDeque::new() }
    }

    /// The next one; nothing behind the last item, or when they were removed.
    pub(super) async fn next(
        &mut self,
        context: &Context,
    ) -> Result<Option<v1::ResultPart>, Status> {
        while !self.are_over() {
            let Some(part) = self.read.pop_front() else {
                let read = context.store.results(self.job, self.next, READ_BYTES).await;
                self.read = read.map_err(errors::store)?.into();
                if self.read.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            let part = convert::decode_part(part.data).map_err(|error| errors::internal(&error))?;
            let Some(part) = convert::skip_to(part, self.next) else { continue };
            if part.first_item != self.next || part.items == 0 {
                let (job, expected) = (self.job, self.next);
                return Err(errors::internal(&Gap { job, expected, found: part.first_item }));
            }
            self.next = self.next.saturating_add(part.items);
            return Ok(Some(part));
        }
        Ok(None)
    }

    /// Whether every item was given.
    pub(super) const fn are_over(&self) -> bool {
        self.next >= self.total
    }
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
