//! Following jobs until they end, over restarts of the coordinator.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
use stoker_proto::v1;
use stoker_runtime::retry::{Delays, Retryable};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::{Client, refusal};
use crate::failure::Failure;
use crate::render::state::is_terminal;
use crate::terminal::note;

/// Most jobs of one call.
const JOBS_PER_CALL: usize = 1_000;

/// How long a coordinator may be away before the watch gives up.
const PATIENCE: Duration = Duration::from_mins(2);

/// Whether the coordinator is known to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coordinator {
    /// It has answered before: if it is away, it will be back.
    Known,
    /// If it is away, most likely the address is wrong.
    Unknown,
}

/// Yields the present state of each job, then each change, and ends when all have ended.
///
/// An item may repeat what an earlier one said. After an error nothing follows for that part.
pub(crate) fn watch(
    client: &Client,
    ids: &[String],
    coordinator: Coordinator,
) -> BoxStream<'static, Result<v1::Job, Failure>> {
    let parts = ids.chunks(JOBS_PER_CALL).map(|ids| {
        let watch = Watch::new(client.clone(), ids, coordinator);
        stream::unfold(watch, |mut watch| async move {
            let item = watch.next().await?;
            Some((item, watch))
        })
        .boxed()
    });
    stream::select_all(parts).boxed()
}

/// One call's worth of jobs.
struct Watch {
    client: Client,
    /// What has not ended; empty after an error.
    pending: BTreeSet<String>,
    updates: Option<Streaming<v1::WatchResponse>>,
    delays: Delays,
    lost_at: Option<Instant>,
    coordinator: Coordinator,
}

impl Watch {
    fn new(client: Client, ids: &[String], coordinator: Coordinator) -> Self {
        Self {
            client,
            pending: ids.iter().cloned().collect(),
            updates: None,
            delays: Delays::new(Duration::from_millis(200), Duration::from_secs(3)),
            lost_at: None,
            coordinator,
        }
    }

    async fn next(&mut self) -> Option<Result<v1::Job, Failure>> {
        while !self.pending.is_empty() {
            match self.receive().await {
                Ok(Some(job)) => {
                    if is_terminal(job.state) {
                        self.pending.remove(&job.id);
                    }
                    return Some(Ok(job));
                }
                Ok(None) => self.lost(),
                Err(status) if self.is_worth_waiting(&status) => self.lost(),
                Err(status) => {
                    self.pending.clear();
                    let failure = refusal::failure("watch the jobs", &self.client.server, &status);
                    return Some(Err(failure));
                }
            }
            tokio::time::sleep(self.delays.next_delay()).await;
        }
        None
    }

    async fn receive(&mut self) -> Result<Option<v1::Job>, Status> {
        if self.updates.is_none() {
            let job_ids = self.pending.iter().cloned().collect();
            let mut jobs = self.client.jobs.clone();
            let call = jobs.watch(v1::WatchRequest { job_ids, texts: false });
            let answer = tokio::time::timeout(self.client.timeout, call).await;
            let answer = answer.map_err(|_| Status::unavailable("no answer in time"))??;
            self.updates = Some(answer.into_inner());
            self.coordinator = Coordinator::Known;
        }
        let Some(updates) = &mut self.updates else { return Ok(None) };
        let Some(update) = updates.message().await? else { return Ok(None) };
        if self.lost_at.take().is_some() {
            note(&format!("{} is back", self.client.server));
        }
        self.delays.reset();
        update
            .job
            .map_or_else(|| Err(Status::internal("an update without a job")), |job| Ok(Some(job)))
    }

    /// The stream broke or ended early: connect anew.
    fn lost(&mut self) {
        self.updates = None;
        self.lost_at.get_or_insert_with(Instant::now);
    }

    fn is_worth_waiting(&self, status: &Status) -> bool {
        let broken = refusal::retryable(status) != Retryable::Permanent;
        let known = self.coordinator == Coordinator::Known;
        broken && known && self.lost_at.is_none_or(|since| since.elapsed() < PATIENCE)
    }
}
