//! What a worker that claims a delivery is told.

use crate::ids::{ClaimId, DispatchSeq};

use super::state::{Job, State};

/// Why a claim was not granted. Each is definitive: the delivery is acknowledged and forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimRefusal {
    /// Another claim holds a live lease.
    Busy,
    /// The job has ended.
    Terminal,
    /// The message is not of the job's last dispatch, or the job is not dispatched now.
    Stale,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// Apply `Event::Claimed`.
    Grant,
    /// This very claim holds the lease: repeat the grant.
    GrantedBefore,
    Refuse(ClaimRefusal),
}

/// Decides a claim of dispatch `seq`.
pub fn answer_claim(job: &Job, seq: DispatchSeq, claim: ClaimId) -> ClaimAnswer {
    match &job.state {
        State::Dispatched { .. } if seq == job.dispatch_seq => ClaimAnswer::Grant,
        State::Leased(lease) if lease.claim == claim => ClaimAnswer::GrantedBefore,
        State::Leased(_) => ClaimAnswer::Refuse(ClaimRefusal::Busy),
        State::Queued | State::Dispatched { .. } | State::RetryWait { .. } => {
            ClaimAnswer::Refuse(ClaimRefusal::Stale)
        }
        State::Succeeded | State::Failed | State::Cancelled | State::Expired => {
            ClaimAnswer::Refuse(ClaimRefusal::Terminal)
        }
    }
}
