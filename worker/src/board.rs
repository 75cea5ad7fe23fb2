//! What one engine has to do and how far it is: jobs in, batches out, results back together.
//!
//! Pure: it is told what happened and at what time, and answers with messages for the engine and
//! with attempts that ended. It does no I/O, reads no clock and starts nothing.

mod batches;
mod job;
mod leaving;
mod preparing;
mod results;
mod telling;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use stoker_core::batch::{BatchSize, Pending, Queue, Turn};
use stoker_core::departure::Pace;
use stoker_core::time::Timestamp;
use stoker_engine_api::{EngineInfo, ItemError, ItemKey, Labels, Piece, TaskKind, ToEngine};
use stoker_proto::v1::{BegunTexts, ResultPart};

use batches::Batch;
pub use batches::{Blame, Finished, ProtocolError};
pub use job::{Admission, JobKey};
use job::{Ends, Job};
use preparing::Preparing;
pub use results::part_bytes;

/// Results of one job that may wait to be stored before it is held back.
const MAX_UNSENT_BYTES: usize = 16 << 20;
/// A longer input does not fit into a frame.
const MAX_INPUT_BYTES: usize = 32 << 20;

/// Why an attempt failed, in the words of the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// Stable, upper case.
    pub code: &'static str,
    pub message: String,
}

/// Whose budget a failure counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    Retryable,
    Permanent,
    /// The engine died running it.
    Crash,
}

/// How an attempt ended on the board.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// Results that are not stored yet, and the engine's time.
    Completed {
        parts: Vec<ResultPart>,
        busy: Duration,
    },
    Failed(Failure),
    /// It was asked to leave, and everything of it that had been started is done: results that are not
    /// stored yet.
    HandedOver {
        parts: Vec<ResultPart>,
    },
}

/// An attempt that left the board.
#[derive(Debug, PartialEq)]
pub struct Ended {
    pub key: JobKey,
    pub outcome: Outcome,
}

/// What is to be done now.
#[derive(Debug, Default, PartialEq)]
#[must_use]
pub struct Step {
    /// For the engine, in this order.
    pub messages: Vec<ToEngine>,
    /// Batches among the messages.
    pub started: Vec<Started>,
    /// Look again at this time even if nothing happens.
    pub wake_at: Option<Timestamp>,
}

/// A batch that goes to the engine.
#[derive(Debug, PartialEq)]
pub struct Started {
    pub batch: u64,
    pub items: usize,
    pub tokens: u64,
    /// Attempts in it, each once.
    pub jobs: Vec<JobKey>,
    /// How long each attempt waited whose first batch this is.
    pub waited: Vec<Duration>,
}

/// What the engine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    pub lanes: usize,
    pub max_tokens: u32,
    pub max_items: u32,
}

impl Capacity {
    /// Batches that share a frame with their outputs.
    pub const MAX_ITEMS: u32 = 1_024;

    /// The engine's own figures, with the registry's limit of tokens where it is set and the engine has the room.
    pub fn of(info: &EngineInfo, max_batch_tokens: Option<u32>) -> Self {
        let fits = info.max_batch_tokens;
        Self {
            lanes: usize::try_from(info.lanes).unwrap_or(1).max(1),
            max_tokens: max_batch_tokens.map_or(fits, |most| most.min(fits)).max(1),
            max_items: match info.task {
                // Lanes are sequences, or recordings, and join and leave one by one.
                TaskKind::TextGeneration | TaskKind::SpeechToText => 1,
                TaskKind::TextEmbedding
                | TaskKind::TextClassification
                | TaskKind::ImageEmbedding
                | TaskKind::ImageClassification
                | TaskKind::ImageCaptioning
                | TaskKind::FaceDetection
                | TaskKind::FaceEmbedding
                | TaskKind::Echo => Self::MAX_ITEMS,
            },
        }
    }
}

/// The jobs of one model.
#[derive(Debug)]
pub struct Board {
    /// None while no engine is ready.
    engine: Option<Capacity>,
    /// What the engine's scores are of; without names where each job has its own.
    labels: Option<Arc<Labels>>,
    jobs: BTreeMap<JobKey, Job>,
    /// Items that the engine was given.
    items: BTreeMap<ItemKey, (JobKey, u32)>,
    queue: Queue<JobKey, ItemKey>,
    /// `Prepare` messages without an answer, in the order in which they were sent.
    preparing: Vec<Preparing>,
    /// Whose work is under way, or was last.
    turn: Turn<JobKey>,
    running: BTreeMap<u64, Batch>,
    /// Parts of failed batches, to be run as they are.
    retries: VecDeque<Batch>,
    forget: Vec<ItemKey>,
    /// Of all jobs together, as measured lately.
    pace: Pace,
    size: BatchSize,
    next_key: u64,
    next_batch: u64,
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl Board {
    pub fn new() -> Self {
        Self {
            engine: None,
            labels: None,
            jobs: BTreeMap::new(),
            items: BTreeMap::new(),
            queue: Queue::new(),
            preparing: Vec::new(),
            turn: Turn::Shared,
            running: BTreeMap::new(),
            retries: VecDeque::new(),
            forget: Vec::new(),
            pace: Pace::default(),
            size: BatchSize::default(),
            next_key: 0,
            next_batch: 0,
        }
    }

    /// Whether no attempt is left on the board.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub fn is_engine_ready(&self) -> bool {
        self.engine.is_some()
    }

    pub fn contains(&self, key: JobKey) -> bool {
        self.jobs.contains_key(&key)
    }

    /// Tokens that a batch should have at most, as learned; none without an engine.
    pub fn batch_tokens(&self) -> Option<u32> {
        self.engine.map(|capacity| self.size.best(capacity.max_tokens))
    }

    /// The attempts on the board, in the order in which they came.
    pub fn keys(&self) -> impl Iterator<Item = JobKey> {
        self.jobs.keys().copied()
    }

    /// Result bytes that wait to be stored.
    pub fn unsent_bytes(&self) -> usize {
        self.jobs.values().map(|job| job.results.unsent_bytes()).sum()
    }

    /// Takes a granted job. It ends at once when there is nothing to do or no way to do it.
    #[must_use]
    pub fn admit(&mut self, admission: Admission) -> Option<Ended> {
        let key = admission.key;
        let oversized = admission.inputs.iter().position(|input| input.bytes() > MAX_INPUT_BYTES);
        if let Some(index) = oversized {
            let message = format!("item {index} is longer than {MAX_INPUT_BYTES} bytes");
            let (kind, code) = (FailureKind::Permanent, "INPUT_TOO_LARGE");
            return Some(Ended { key, outcome: Outcome::Failed(Failure { kind, code, message }) });
        }
        self.jobs.insert(key, Job::new(admission));
        self.finish_if_done(key)
    }

    /// An engine is warm.
    pub fn engine_ready(&mut self, capacity: Capacity, labels: Option<Labels>) {
        self.engine = Some(capacity);
        self.labels = labels.map(Arc::new);
    }

    /// Takes an attempt off the board without an end of its own: cancelled, fenced or handed back.
    /// Gives the results that are not stored yet; nothing when it is not here.
    pub fn remove(&mut self, key: JobKey) -> Option<Vec<ResultPart>> {
        self.take(key).map(|job| job.results.into_rest())
    }

    /// Removes a job with everything the engine or the queue holds of it.
    fn take(&mut self, key: JobKey) -> Option<Job> {
        let job = self.jobs.remove(&key)?;
        self.queue.remove_job(key);
        // An engine that takes one item at a time generates it step by step, and can end in the middle.
        let ends_within = self.engine.is_some_and(|capacity| capacity.max_items == 1);
        let shared = self.running.values().filter(|_| !ends_within);
        let running: std::collections::BTreeSet<ItemKey> = shared
            .flat_map(|batch| &batch.items)
            .filter(|item| item.job == key)
            .map(|item| item.key)
            .collect();
        for held in job.held() {
            self.items.remove(&held);
            // The engine forgets the items of a batch by itself when the batch is done.
            if !running.contains(&held) {
                self.forget.push(held);
            }
        }
        Some(job)
    }

    /// What is generated so far of items of this job that are in no part.
    pub fn begun(&self, key: JobKey) -> Option<BegunTexts> {
        self.jobs.get(&key)?.begun()
    }

    /// More of an item's output. It counts for nothing yet: the output comes as a whole.
    pub fn said(&mut self, batch: u64, item: ItemKey, piece: Piece) {
        let known = self.running.get(&batch).is_some_and(|batch| batch.has(item));
        if let Some(&(key, index)) = self.items.get(&item).filter(|_| known)
            && let Some(job) = self.jobs.get_mut(&key)
        {
            job.said(index, piece);
        }
    }

    /// The engine's answer to `Prepare`.
    #[must_use]
    pub fn prepared(
        &mut self,
        items: Vec<(ItemKey, Result<u32, ItemError>)>,
        now: Timestamp,
    ) -> Vec<Ended> {
        if let Some((first, _)) = items.first() {
            // An engine with several threads answers in any order.
            self.preparing.retain(|message| message.first != *first);
        }
        let mut ended = Vec::new();
        for (item, outcome) in items {
            let Some(&(key, index)) = self.items.get(&item) else { continue };
            match outcome {
                Ok(cost) => {
                    if let Some(job) = self.jobs.get_mut(&key) {
                        job.prepared(index, cost.max(1));
                        self.queue.push(pending(item, key, job, cost.max(1), now));
                    }
                }
                Err(error) => {
                    self.items.remove(&item);
                    if let Some(job) = self.jobs.get_mut(&key) {
                        job.refused(index);
                    }
                    let outcome = Outcome::Failed(item_failure(index, &error));
                    if self.take(key).is_some() {
                        ended.push(Ended { key, outcome });
                    }
                }
            }
        }
        ended
    }

    /// Everything that can be done now. Call it after each group of events.
    pub fn advance(&mut self, now: Timestamp) -> Step {
        let mut step = Step::default();
        if self.engine.is_none() {
            // A dead engine has nothing to forget.
            self.forget.clear();
            return step;
        }
        if !self.forget.is_empty() {
            step.messages.push(ToEngine::Forget { items: std::mem::take(&mut self.forget) });
        }
        if self.take_turn() {
            self.start_batches(now, &mut step);
            self.prepare(&mut step);
        }
        step
    }

    /// Whether work may be started: what is under way is of the turn that is wanted. Another turn
    /// begins when nothing is under way any more, so that whatever kills the engine in a suspect's
    /// turn is the suspect's.
    fn take_turn(&mut self) -> bool {
        let wants = self.jobs.iter_mut().filter_map(|(key, job)| job.want(*key));
        let Some(wanted) = Turn::of_most_urgent(wants) else { return true };
        if self.running.is_empty() && self.preparing.is_empty() {
            self.turn = wanted;
        }
        self.turn == wanted
    }

    /// Results of an attempt to be stored as a checkpoint, at most `budget` bytes. They must be
    /// answered by [`Board::checkpoint_stored`] or [`Board::checkpoint_lost`].
    pub fn checkpoint(&mut self, key: JobKey, budget: usize) -> Vec<ResultPart> {
        self.jobs.get_mut(&key).map(|job| job.results.checkpoint(budget)).unwrap_or_default()
    }

    #[must_use]
    pub fn checkpoint_stored(&mut self, key: JobKey) -> Option<Ended> {
        self.jobs.get_mut(&key)?.results.confirm();
        self.finish_if_done(key)
    }

    /// It is not known whether the checkpoint was stored.
    #[must_use]
    pub fn checkpoint_lost(&mut self, key: JobKey) -> Option<Ended> {
        self.jobs.get_mut(&key)?.results.give_back();
        self.finish_if_done(key)
    }

    /// The end of a job whose last result is there. A checkpoint in flight is waited for, so that
    /// the completion carries only what was not stored.
    fn finish_if_done(&mut self, key: JobKey) -> Option<Ended> {
        let job = self.jobs.get(&key)?;
        if !job.results.is_complete() || job.results.is_in_flight() {
            return None;
        }
        let job = self.jobs.remove(&key)?;
        let Job { busy, ends, results, .. } = job;
        let parts = results.into_rest();
        let outcome = match ends {
            Ends::Complete => Outcome::Completed { busy, parts },
            Ends::Early => Outcome::HandedOver { parts },
        };
        Some(Ended { key, outcome })
    }
}

fn pending(
    item: ItemKey,
    key: JobKey,
    job: &Job,
    cost_tokens: u32,
    now: Timestamp,
) -> Pending<JobKey, ItemKey> {
    let (start_by, alone) = (job.start_by, job.alone);
    Pending { key: item, job: key, cost_tokens, arrived_at: now, start_by, alone }
}

fn item_failure(index: u32, error: &ItemError) -> Failure {
    let (kind, code) = match error {
        ItemError::WrongKind { .. } | ItemError::Invalid { .. } => {
            (FailureKind::Permanent, "INVALID_INPUT")
        }
        ItemError::Full { .. } => (FailureKind::Retryable, "ENGINE_FULL"),
        ItemError::Internal { .. } => (FailureKind::Retryable, "ENGINE_INTERNAL"),
    };
    Failure { kind, code, message: format!("item {index}: {error}") }
}
