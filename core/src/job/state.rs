//! What is known of a job between events.

use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, ClaimId, DispatchSeq, JobId, LeaseToken, WorkerId};
use crate::policy::LeasePolicy;
use crate::time::Timestamp;

/// The part of a job that decides its fate: no input, no results, no names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    pub state: State,
    /// Number of the last release to the broker.
    pub dispatch_seq: DispatchSeq,
    /// The last attempt begun; `None` before the first.
    pub last_attempt: Option<Attempt>,
    pub spent: Budgets,
    pub accepted_at: Timestamp,
    /// First start of execution; ends the wait that the class promises.
    pub started_at: Option<Timestamp>,
    /// When the job reached its terminal state.
    pub finished_at: Option<Timestamp>,
    /// [`Timestamp::MAX`] when there is none.
    pub deadline_at: Timestamp,
    pub items_total: u32,
    /// Items from the first on whose results are stored.
    pub items_done: u32,
    /// A batch with this job in it crashed: run it in batches of its own.
    pub run_alone: bool,
    /// The last failure: of the last attempt in `RetryWait`, final in `Failed`.
    pub failure: Option<Failure>,
}

impl Job {
    /// A job as it is accepted.
    pub fn accepted(id: JobId, items_total: u32, now: Timestamp, deadline_at: Timestamp) -> Self {
        Self {
            id,
            state: State::Queued,
            dispatch_seq: DispatchSeq::ZERO,
            last_attempt: None,
            spent: Budgets::default(),
            accepted_at: now,
            started_at: None,
            finished_at: None,
            deadline_at,
            items_total,
            items_done: 0,
            run_alone: false,
            failure: None,
        }
    }

    /// The lease, when the job is leased.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Leased(lease) => Some(lease),
            State::Queued
            | State::Dispatched { .. }
            | State::RetryWait { .. }
            | State::Succeeded
            | State::Failed
            | State::Cancelled
            | State::Expired => None,
        }
    }
}

/// Where a job is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Waits to be released to the broker.
    Queued,
    /// Released to the broker at `at`, not yet claimed.
    Dispatched {
        at: Timestamp,
    },
    Leased(Lease),
    /// Waits until `until` after a failed attempt.
    RetryWait {
        until: Timestamp,
    },
    Succeeded,
    Failed,
    Cancelled,
    Expired,
}

impl State {
    pub const fn kind(&self) -> StateKind {
        match self {
            Self::Queued => StateKind::Queued,
            Self::Dispatched { .. } => StateKind::Dispatched,
            Self::Leased(_) => StateKind::Leased,
            Self::RetryWait { .. } => StateKind::RetryWait,
            Self::Succeeded => StateKind::Succeeded,
            Self::Failed => StateKind::Failed,
            Self::Cancelled => StateKind::Cancelled,
            Self::Expired => StateKind::Expired,
        }
    }

    pub const fn is_terminal(&self) -> bool {
        self.kind().is_terminal()
    }
}

/// [`State`] without its data. The numbers are stored; never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StateKind {
    Queued = 1,
    Dispatched = 2,
    Leased = 3,
    RetryWait = 4,
    Succeeded = 5,
    Failed = 6,
    Cancelled = 7,
    Expired = 8,
}

impl StateKind {
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Dispatched,
        Self::Leased,
        Self::RetryWait,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    pub const fn number(self) -> u8 {
        self as u8
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired)
    }

    /// Lower-case name for logs, labels and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Dispatched => "dispatched",
            Self::Leased => "leased",
            Self::RetryWait => "retry_wait",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// Time-bounded right of a worker to the current attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub attempt: Attempt,
    pub token: LeaseToken,
    pub worker: WorkerId,
    pub claim: ClaimId,
    pub expires_at: Timestamp,
    /// Heartbeats never extend the lease past this.
    pub must_end_by: Timestamp,
    /// Set when cancel was asked for; the attempt is revoked some time after.
    pub cancel_requested_at: Option<Timestamp>,
}

impl Lease {
    /// Gives the lease a full life from now on, whatever it had: nobody could be heard for a while,
    /// not even a worker that finished in time, and another clock may have written its end.
    ///
    /// The attempt's own end moves farther than the lease's: a worker that vanished meanwhile then
    /// loses its lease as one that is silent, and not as one that ran for too long, which would be
    /// held against the job.
    pub fn grant_amnesty(&mut self, now: Timestamp, policy: &LeasePolicy) {
        self.expires_at = now.after(policy.ttl);
        self.must_end_by = self.must_end_by.max(now.after(policy.ttl * 2));
    }
}

/// What a job has used up. Separate, since they say different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Budgets {
    /// Errors of the job's own.
    pub failures: u32,
    /// Engine processes that died running it.
    pub crashes: u32,
    /// Workers that vanished running it.
    pub lost_workers: u32,
    /// Attempts handed back by a worker that had to stop. Never held against the job.
    pub interruptions: u32,
}

/// Why a job failed, or why its last attempt did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub reason: FailureReason,
    /// Stable, upper case, such as `OUT_OF_MEMORY`.
    pub code: String,
    /// For people; never contains input.
    pub message: String,
}

/// Numbers are stored; never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FailureReason {
    /// An error that no retry can mend.
    Permanent = 1,
    /// Retryable errors used up the budget. In `RetryWait`: one of them.
    RetriesExhausted = 2,
    /// Processes or workers that ran it died until a budget was spent.
    Poison = 3,
}

impl FailureReason {
    pub const ALL: [Self; 3] = [Self::Permanent, Self::RetriesExhausted, Self::Poison];

    pub const fn number(self) -> u8 {
        self as u8
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.number() == number)
    }
}
