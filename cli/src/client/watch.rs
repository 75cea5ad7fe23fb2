//! Following jobs until they end, over restarts of the coordinator.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
use stoker_proto::status::{Reason, explain};
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

/// What a watcher is told.
#[derive(Debug, PartialEq)]
pub(crate) enum Update {
    Job(Box<v1::Job>),
    Texts(v1::TextNews),
}

/// What a watcher wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    States,
    /// Texts that are being generated, too. A coordinator that has too many such watchers tells states only.
    Texts,
}

/// Yields the present state of each job, then each change, and ends when all have ended.
///
/// An item may repeat what an earlier one said. After an error nothing follows for that part.
pub(crate) fn watch(
    client: &Client,
    ids: &[String],
    coordinator: Coordinator,
) -> BoxStream<'static, Result<v1::Job, Failure>> {
    let job = async |update| match update {
        Ok(Update::Job(job)) => Some(Ok(*job)),
        Ok(Update::Texts(_)) => None,
        Err(failure) => Some(Err(failure)),
    };
    follow(client, ids, coordinator, Wanted::States).filter_map(job).boxed()
}

/// As [`watch`], with what else is wanted.
pub(crate) fn follow(
    client: &Client,
    ids: &[String],
    coordinator: Coordinator,
    wanted: Wanted,
) -> BoxStream<'static, Result<Update, Failure>> {
    let parts = ids.chunks(JOBS_PER_CALL).map(|ids| {
        let watch = Watch { wanted, ..Watch::new(client.clone(), ids, coordinator) };
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
    wanted: Wanted,
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
            wanted: Wanted::States,
        }
    }

    async fn next(&mut self) -> Option<Result<Update, Failure>> {
        while !self.pending.is_empty() {
            match self.receive().await {
                Ok(Some(update)) => {
                    if let Update::Job(job) = &update
                        && is_terminal(job.state)
                    {
                        self.pending.remove(&job.id);
                    }
                    return Some(Ok(update));
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

    async fn receive(&mut self) -> Result<Option<Update>, Status> {
        if self.updates.is_none() {
            let mut opened = self.open().await;
            if self.wanted == Wanted::Texts && opened.as_ref().is_err_and(is_too_many) {
                note("many others read along; its texts come with its results");
                self.wanted = Wanted::States;
                opened = self.open().await;
            }
            self.updates = Some(opened?);
            self.coordinator = Coordinator::Known;
        }
        let Some(updates) = &mut self.updates else { return Ok(None) };
        let Some(update) = updates.message().await? else { return Ok(None) };
        if self.lost_at.take().is_some() {
            note(&format!("{} is back", self.client.server));
        }
        self.delays.reset();
        match update {
            v1::WatchResponse { job: Some(job), .. } => Ok(Some(Update::Job(Box::new(job)))),
            v1::WatchResponse { texts: Some(texts), .. } => Ok(Some(Update::Texts(texts))),
            v1::WatchResponse { job: None, texts: None } => {
                Err(Status::internal("an update without a job"))
            }
        }
    }

    async fn open(&self) -> Result<Streaming<v1::WatchResponse>, Status> {
        let job_ids = self.pending.iter().cloned().collect();
        let mut jobs = self.client.jobs.clone();
        let call = jobs.watch(v1::WatchRequest { job_ids, texts: self.wanted == Wanted::Texts });
        let answer = tokio::time::timeout(self.client.timeout, call).await;
        Ok(answer.map_err(|_| Status::unavailable("no answer in time"))??.into_inner())
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

/// Whether as many streams of this kind are open as may be.
fn is_too_many(status: &Status) -> bool {
    explain(status).reason == Some(Reason::TooManyStreams)
}
