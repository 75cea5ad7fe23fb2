//! A job with everything that is told about it.

use crate::ids::{Attempt, ClassName, JobId, ModelName, PoolName, TenantName, WorkerId};
use crate::request::{Labels, Task};
use crate::time::Timestamp;

use super::state::Job;

/// A job with its names and sizes, as clients and operators see it. Neither input nor results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    pub job: Job,
    pub tenant: TenantName,
    pub class: ClassName,
    pub pool: PoolName,
    pub model: ModelName,
    pub task: Task,
    pub labels: Labels,
    pub input_bytes: u64,
    pub result_bytes: u64,
    /// The job that this one retries.
    pub retry_of: Option<JobId>,
    /// The job that retries this one.
    pub retried_as: Option<JobId>,
}

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    pub attempt: Attempt,
    pub worker: WorkerId,
    pub started_at: Timestamp,
    /// `None` while it runs.
    pub ended_at: Option<Timestamp>,
    pub outcome: AttemptOutcome,
    /// Stable code of the error; empty without one.
    pub code: String,
    pub message: String,
}

/// How an attempt ended. The numbers are stored; never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AttemptOutcome {
    Running = 1,
    Succeeded = 2,
    Failed = 3,
    Crashed = 4,
    WorkerLost = 5,
    Released = 6,
    /// The job was cancelled, expired, or another attempt's result won.
    Revoked = 7,
}

impl AttemptOutcome {
    pub const ALL: [Self; 7] = [
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Crashed,
        Self::WorkerLost,
        Self::Released,
        Self::Revoked,
    ];

    pub const fn number(self) -> u8 {
        self as u8
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.number() == number)
    }

    /// For tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
            Self::WorkerLost => "worker lost",
            Self::Released => "released",
            Self::Revoked => "revoked",
        }
    }
}
