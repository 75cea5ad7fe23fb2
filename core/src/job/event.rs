//! What can happen to a job, and what somebody has to do about it.

use crate::ids::{Attempt, ClaimId, DispatchSeq, LeaseToken, WorkerId};
use crate::time::Timestamp;

/// Something that happened. An attempt in an event has been checked against its lease token by
/// whoever looked the attempt up; that it exists is a precondition, that it is current is not.
/// `jitter` is uniform in `[0, 1)`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The dispatcher chose to release the job.
    DispatchChosen,
    /// The message of the last dispatch was not claimed in time.
    RedispatchDue,
    /// A worker claims dispatch `seq`.
    Claimed {
        seq: DispatchSeq,
        claim: ClaimId,
        worker: WorkerId,
        token: LeaseToken,
    },
    /// The holder is alive and has `items_done` items stored.
    HeartbeatReceived {
        attempt: Attempt,
        items_done: u32,
    },
    /// The stream of the worker that holds the lease broke.
    WorkerDisconnected {
        worker: WorkerId,
    },
    /// All results are stored.
    Completed {
        attempt: Attempt,
    },
    AttemptFailed {
        attempt: Attempt,
        error: AttemptError,
        jitter: f64,
    },
    /// A worker hands the attempt back.
    Released {
        attempt: Attempt,
        reason: ReleaseReason,
        items_done: u32,
    },
    /// The lease ran out.
    LeaseExpired {
        jitter: f64,
    },
    RetryDue,
    CancelRequested,
    /// The worker did not stop in time after a cancel request.
    CancelGraceOver,
    DeadlinePassed,
}

/// An attempt's error as the worker reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptError {
    pub kind: FailureKind,
    /// Stable, upper case.
    pub code: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// May succeed next time.
    Retryable,
    /// No retry can mend it.
    Permanent,
    /// The engine process died.
    Crash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseReason {
    Draining,
    Interrupted,
    Unavailable,
    /// The worker stopped since the job was cancelled.
    Stopped,
}

/// What the shell has to do after the new state is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Send the hint `(job, seq)` to the broker.
    Publish { seq: DispatchSeq },
    /// Tell the worker to stop this attempt.
    StopAttempt { worker: WorkerId, attempt: Attempt },
    /// The job waits for a dispatch: wake the dispatcher.
    WakeDispatcher,
    /// Wake the sweeper at this time at the latest.
    WakeSweeper { at: Timestamp },
}
