//! What goes into and comes out of a store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stoker_core::ids::{
    Attempt, ClaimId, ClassName, DispatchSeq, JobId, LeaseToken, ModelName, TenantName, WorkerId,
};
use stoker_core::job::{ClaimRefusal, Effect, JobRecord, ReleaseReason, StateKind};
use stoker_core::request::{Idempotency, Labels, Task};
use stoker_core::time::Timestamp;
use stoker_runtime::trace_context::TraceContext;

/// A queue: work for one model in one pool.
pub use stoker_broker::Queue as Lane;

/// A job to be stored, with everything resolved.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub id: JobId,
    pub tenant: TenantName,
    pub class: ClassName,
    pub lane: Lane,
    pub task: Task,
    /// Encoded input, opaque to the store.
    pub input: Bytes,
    pub items: u32,
    pub idempotency: Option<Idempotency>,
    pub accepted_at: Timestamp,
    /// [`Timestamp::MAX`] without a deadline.
    pub deadline_at: Timestamp,
    /// When the class's longest wait is over; orders the queue.
    pub start_by: Timestamp,
    pub labels: Labels,
    pub trace: TraceContext,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    pub job: JobId,
    /// False when an idempotency key answered with an earlier job.
    pub created: bool,
}

/// Whose jobs a call may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantScope {
    /// An operator's call.
    All,
    Only(TenantName),
}

impl TenantScope {
    pub fn contains(&self, tenant: &TenantName) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => only == tenant,
        }
    }
}

/// Which jobs to list. Empty and `None` mean any.
#[derive(Debug, Clone)]
pub struct Filter {
    pub scope: TenantScope,
    pub states: Vec<StateKind>,
    pub model: Option<ModelName>,
    pub class: Option<ClassName>,
    pub labels: Labels,
    pub accepted_after: Option<Timestamp>,
    pub accepted_before: Option<Timestamp>,
    /// Failed jobs that were neither retried nor discarded.
    pub only_dead_letters: bool,
    pub failure: Option<stoker_core::job::FailureReason>,
    /// Jobs before this one, in the order of the list.
    pub before: Option<JobId>,
    pub limit: u32,
}

#[derive(Debug, Clone)]
pub struct Page {
    pub jobs: Vec<JobRecord>,
    /// Where the next page starts; `None` on the last.
    pub next: Option<JobId>,
}

/// Results of consecutive items, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    pub first_item: u32,
    pub items: u32,
    pub data: Bytes,
}

#[derive(Debug, Clone)]
pub enum Cancelled {
    /// The job as it is now: cancelled, or asked to stop.
    Done(JobRecord),
    /// It had ended otherwise.
    EndedBefore(JobRecord),
    Unknown,
}

#[derive(Debug, Clone)]
pub enum Retried {
    /// The new job, now or from an earlier call.
    As(JobRecord),
    /// The job has not ended, or succeeded.
    NotRetryable(JobRecord),
    /// The input was removed by retention.
    InputGone(JobRecord),
    Unknown,
}

/// Jobs of one tenant that wait in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingTenant {
    pub tenant: TenantName,
    /// Jobs of the tenant in this queue that are dispatched or leased.
    pub in_flight: u32,
    /// Least slack first.
    pub heads: Vec<(JobId, Timestamp)>,
}

/// A message that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    pub job: JobId,
    pub seq: DispatchSeq,
    pub lane: Lane,
    pub trace: TraceContext,
}

/// Of which queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaneSet {
    AllBut(Vec<Lane>),
    Only(Lane),
}

impl LaneSet {
    pub fn contains(&self, lane: &Lane) -> bool {
        match self {
            Self::AllBut(lanes) => !lanes.contains(lane),
            Self::Only(only) => only == lane,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Claim {
    pub job: JobId,
    pub seq: DispatchSeq,
    pub claim: ClaimId,
    /// The token to give if the claim is granted.
    pub token: LeaseToken,
}

#[derive(Debug, Clone)]
pub enum ClaimOutcome {
    Granted(Box<Grant>),
    Refused(ClaimRefusal),
    Unknown,
    /// The answer is full.
    Deferred,
}

/// The right to run an attempt, and what it needs.
#[derive(Debug, Clone)]
pub struct Grant {
    pub attempt: Attempt,
    pub token: LeaseToken,
    pub model: ModelName,
    pub input: Bytes,
    pub first_item: u32,
    pub run_alone: bool,
    pub start_by: Timestamp,
    pub trace: TraceContext,
}

/// Names one attempt and proves the right to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptRef {
    pub job: JobId,
    pub attempt: Attempt,
    pub token: LeaseToken,
}

/// Results of an attempt since the last call.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub attempt: AttemptRef,
    /// In order, without a gap.
    pub parts: Vec<StoredPart>,
    /// What is begun of other items, in the place of what was before; opaque to the store.
    pub begun: Option<Bytes>,
}

/// Where the store keeps what is begun: behind every item that there can be.
pub const BEGUN_ITEM: u32 = u32::MAX - 1;

/// Bytes of results that calls bring.
pub(super) fn data_bytes<'a>(checkpoints: impl IntoIterator<Item = &'a Checkpoint>) -> usize {
    checkpoints.into_iter().flat_map(|one| &one.parts).map(|part| part.data.len()).sum()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatOutcome {
    Continue,
    Stop,
    Fenced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompleteOutcome {
    Recorded,
    AlreadyRecorded,
    Terminal,
    Fenced,
    /// The parts do not make the whole result; nothing was stored.
    Incomplete,
}

#[derive(Debug, Clone)]
pub struct Release {
    pub checkpoint: Checkpoint,
    pub reason: ReleaseReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleOutcome {
    Recorded,
    Fenced,
}

/// What a sweep did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Jobs that changed.
    pub changed: u32,
    /// When the next job is due, if any is timed.
    pub next_due: Option<Timestamp>,
}

/// One job's committed change.
#[derive(Debug, Clone)]
pub struct Change {
    pub job: JobId,
    pub class: ClassName,
    pub lane: Lane,
    /// `None` for a new job.
    pub from: Option<StateKind>,
    pub to: StateKind,
    pub effects: Vec<Effect>,
    /// How long the job waited, when this change was its first start.
    pub waited: Option<Duration>,
}

/// A worker, as the coordinator that has its stream knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRow {
    pub id: WorkerId,
    /// What is known of it, opaque to the store.
    pub about: String,
    /// How long ago it was last heard.
    pub silent_for: Duration,
}

/// A worker of any coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownWorker {
    pub row: WorkerRow,
    /// Who has its stream.
    pub home: Origin,
    pub orders: WorkerOrders,
}

/// What operators have ordered a worker so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerOrders {
    pub cordoned: bool,
    /// As [`WorkerOrder::Drain`].
    pub drain: Option<Option<Duration>>,
}

/// What an operator orders a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerOrder {
    Cordon,
    Uncordon,
    /// Within this time; `None`: the worker's own grace.
    Drain(Option<Duration>),
}

/// A part that only one coordinator has at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Releases what waits, and publishes it.
    Dispatch,
    /// Applies what time brings.
    Sweep,
    /// Removes what has been kept long enough.
    Retention,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Dispatch, Self::Sweep, Self::Retention];

    /// As it is stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatch",
            Self::Sweep => "sweep",
            Self::Retention => "retention",
        }
    }
}

/// Which coordinator made a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Here,
    /// Another one, with the same store. Such a change does not tell how long the job waited.
    Elsewhere,
}

/// Told of changes once they are durable. Those of one job come in commit order, as far as one
/// coordinator made them. Must return at once.
pub type ChangeListener = Arc<dyn Fn(&[Change], Origin) + Send + Sync>;
