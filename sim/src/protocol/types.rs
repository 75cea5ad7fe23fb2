//! The things of the simulated world, small and readable.

use std::fmt;

use stoker_core::ids::{Attempt, ClaimId, DispatchSeq, JobId, LeaseToken, WorkerId};
use stoker_core::job::{AttemptError, ClaimRefusal, Job, ReleaseReason, Span, StateKind};
use stoker_core::time::Timestamp;

/// A queue.
pub(super) type Lane = usize;
pub(super) type Tenant = usize;

/// A process: its place, and which of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) life: u32,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at, self.life)
    }
}

/// A message in the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hint {
    pub(super) job: JobId,
    pub(super) seq: DispatchSeq,
    pub(super) lane: Lane,
}

/// A delivery that can be settled: the consumer that got it, and its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Delivery {
    pub(super) consumer: u64,
    pub(super) tag: u64,
}

/// Results of consecutive items. The right content is a function of the job's input; `variant`
/// stands for the rounding that differs from attempt to attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Part {
    pub(super) first_item: u32,
    pub(super) items: u32,
    pub(super) content: u64,
    pub(super) variant: u32,
}

impl Part {
    pub(super) const fn span(self) -> Span {
        Span { first_item: self.first_item, items: self.items }
    }
}

/// What the models compute.
pub(super) const fn output(input: u64) -> u64 {
    input.wrapping_mul(0x2545_F491_4F6C_DD1D).rotate_left(17)
}

/// How a job behaves when it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    Fine,
    /// Fails so many times with an error that a retry may mend.
    Flaky(u32),
    /// Fails for good.
    Broken,
    /// Ends the engine process so many times.
    Crashing(u32),
    /// Takes the whole worker down so many times.
    Lethal(u32),
    /// Never gets done.
    Endless,
}

/// What a client submits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) tenant: Tenant,
    pub(super) lane: Lane,
    pub(super) input: u64,
    pub(super) items: u32,
    pub(super) item_millis: u64,
    pub(super) nature: Nature,
    pub(super) deadline_secs: Option<u64>,
    pub(super) max_wait_secs: u64,
}

/// Proves the right to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fence {
    pub(super) job: JobId,
    pub(super) attempt: Attempt,
    pub(super) token: LeaseToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) job: JobId,
    pub(super) seq: DispatchSeq,
    pub(super) id: ClaimId,
}

/// A call to a coordinator.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ask {
    Submit { tenant: Tenant, key: u64, jobs: Vec<Spec> },
    Read { tenant: Tenant, job: JobId },
    Cancel { tenant: Tenant, job: JobId },
    Retry { tenant: Tenant, job: JobId },
    Register { id: WorkerId, node: Node },
    Claim { id: WorkerId, claim: Claim },
    Beat { attempts: Vec<(Fence, Vec<Part>)> },
    Complete { fence: Fence, parts: Vec<Part> },
    Fail { fence: Fence, error: AttemptError },
    Release { fence: Fence, reason: ReleaseReason, parts: Vec<Part> },
}

/// The right to run an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) fence: Fence,
    pub(super) first_item: u32,
    pub(super) alone: bool,
    pub(super) spec: Spec,
}

/// What a reader sees of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) job: Job,
    pub(super) result: Option<Vec<Part>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Continue,
    Stop,
    Fenced,
}

/// What a call is answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Submitted(Vec<JobId>),
    KeyReused,
    Shed {
        retry_after: std::time::Duration,
    },
    Seen(Option<Box<View>>),
    Cancelled(Option<StateKind>),
    Retried(Option<JobId>),
    Registered,
    NotRegistered,
    Granted(Box<Grant>),
    Refused(ClaimRefusal),
    Unknown,
    Deferred,
    Beats(Vec<Heard>),
    Recorded,
    /// Fenced, or the job had ended.
    NoUse,
    Incomplete,
    /// No answer: not reached, refused, in doubt or out of time.
    None,
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    Worker(Node),
    Client(usize),
    /// Somebody who has no right to anything.
    Forger,
}

/// What the caller does with the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    Register,
    Claim {
        key: u64,
    },
    Beat {
        keys: Vec<u64>,
    },
    Report {
        key: u64,
    },
    Submit,
    /// The same key with another request.
    ReuseKey,
    Watch {
        job: JobId,
    },
    /// Another tenant's job.
    Pry,
    Cancel {
        job: JobId,
    },
    Retry {
        job: JobId,
    },
}

/// A message of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) hint: Hint,
    /// When it was put there.
    pub(super) since: Timestamp,
}

/// A number for people.
pub(super) fn number(job: JobId) -> u64 {
    u64::from_be_bytes(job.as_bytes()[8..].try_into().unwrap_or_default())
}

pub(super) fn job_id(number: u64) -> JobId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    JobId::from_bytes(bytes)
}
