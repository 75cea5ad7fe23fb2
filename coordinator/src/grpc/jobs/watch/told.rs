//! What one watcher was told: states, and for those who want them the texts that are being generated.

use std::collections::BTreeSet;
use std::ops::Bound;

use stoker_core::ids::JobId;
use stoker_core::job::{JobRecord, StateKind};
use stoker_core::request::Task;
use stoker_proto::convert;
use stoker_proto::v1;
use stoker_proto::v1::result_part::Output;
use tokio::sync::mpsc::OwnedPermit;
use tonic::Status;

use crate::context::Context;
use crate::grpc::jobs::results::Parts;
use crate::grpc::streams::{self, Gone, Sink, Stop};
use crate::texts::Reader;

type Place = OwnedPermit<Result<v1::WatchResponse, Status>>;

/// A watcher's stream, and how far it is.
pub(super) struct Told {
    sink: Sink<v1::WatchResponse>,
    /// Jobs that have not ended.
    open: BTreeSet<JobId>,
    /// If it reads along.
    reader: Option<Reader>,
    /// Jobs of which there may be more to read.
    unread: BTreeSet<JobId>,
    /// Whose text was told last; the next one's turn comes then.
    last: Option<JobId>,
}

impl Told {
    pub(super) const fn new(sink: Sink<v1::WatchResponse>, reader: Option<Reader>) -> Self {
        Self { sink, open: BTreeSet::new(), reader, unread: BTreeSet::new(), last: None }
    }

    pub(super) fn is_any_open(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn is_open(&self, job: JobId) -> bool {
        self.open.contains(&job)
    }

    pub(super) const fn reader(&self) -> Option<&Reader> {
        self.reader.as_ref()
    }

    /// Tells one job's state, and before the last one what was not told of its texts.
    pub(super) async fn state(
        &mut self,
        context: &Context,
        record: &JobRecord,
    ) -> Result<(), Stop> {
        let id = record.job.id;
        let ended = record.job.state.is_terminal();
        if ended {
            self.rest(context, record).await?;
        }
        let job = Some(convert::job(record));
        streams::send(&self.sink, v1::WatchResponse { job, texts: None }).await?;
        if ended {
            self.leave(id);
        } else {
            self.open.insert(id);
            if record.task == Task::TextGeneration {
                self.unread([id]);
            }
        }
        Ok(())
    }

    /// There is no more to tell of this job.
    pub(super) fn leave(&mut self, job: JobId) {
        self.open.remove(&job);
        self.unread.remove(&job);
        if let Some(reader) = &mut self.reader {
            reader.leave(job);
        }
    }

    /// Notes jobs of which there may be more to read.
    pub(super) fn unread(&mut self, jobs: impl IntoIterator<Item = JobId>) {
        // News of a job may come behind its end, which was told with all of its texts.
        let open = &self.open;
        let jobs = jobs.into_iter().filter(|job| open.contains(job));
        if self.reader.is_some() {
            self.unread.extend(jobs);
        }
    }

    /// A place for a text, once there is something to read. Taken before it is read, so that whoever is slow
    /// gets more at once. Cancel-safe.
    pub(super) async fn place(&self) -> Result<Place, Gone> {
        if self.unread.is_empty() {
            return std::future::pending().await;
        }
        self.sink.clone().reserve_owned().await.map_err(|_| Gone)
    }

    /// Tells some of the texts of the job whose turn it is.
    pub(super) fn text(&mut self, place: Place) {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = self.unread.range((after, Bound::Unbounded));
        let Some(job) = behind.next().or_else(|| self.unread.first()).copied() else { return };
        self.last = Some(job);
        let pieces = self.reader.as_mut().map(|reader| reader.news(job)).unwrap_or_default();
        if pieces.is_empty() {
            self.unread.remove(&job);
        } else {
            place.send(Ok(message(job, pieces)));
        }
    }

    /// Tells what was not told of the texts of a job that has ended: as its results have them, if there are any.
    async fn rest(&mut self, context: &Context, record: &JobRecord) -> Result<(), Stop> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let (job, items) = (record.job.id, record.job.items_total);
        if record.task != Task::TextGeneration {
            return Ok(());
        }
        if record.job.state.kind() == StateKind::Succeeded {
            let mut parts = Parts::new(job, items, 0);
            while let Some(part) = parts.next(context).await? {
                let Some(Output::Generations(texts)) = part.output else { continue };
                for (item, text) in (part.first_item..).zip(texts.generations) {
                    for pieces in reader.rest(job, item, &text.text) {
                        streams::send(&self.sink, message(job, pieces)).await?;
                    }
                }
            }
            return Ok(());
        }
        loop {
            let pieces = reader.news(job);
            if pieces.is_empty() {
                return Ok(());
            }
            streams::send(&self.sink, message(job, pieces)).await?;
        }
    }
}

fn message(job: JobId, pieces: Vec<v1::TextPiece>) -> v1::WatchResponse {
    let texts = Some(v1::TextNews { job_id: job.to_string(), pieces });
    v1::WatchResponse { job: None, texts }
}
