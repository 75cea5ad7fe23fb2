//! Which timer of a job runs out next, and what happens then.

use crate::policy::LeasePolicy;
use crate::time::Timestamp;

use super::event::Event;
use super::state::{Job, State};

/// When [`due_event`] will have something to say about this job; `None` when nothing is timed.
pub fn next_due(job: &Job, policy: &LeasePolicy) -> Option<Timestamp> {
    let timer = match &job.state {
        State::Queued => Timestamp::MAX,
        State::Dispatched { at } => at.after(policy.redispatch_after),
        State::Leased(lease) => match lease.cancel_requested_at {
            Some(at) => lease.expires_at.min(at.after(policy.cancel_grace)),
            None => lease.expires_at,
        },
        State::RetryWait { until } => *until,
        State::Succeeded | State::Failed | State::Cancelled | State::Expired => return None,
    };
    let due = timer.min(job.deadline_at);
    (due != Timestamp::MAX).then_some(due)
}

/// What has become due at `now`, if anything. `jitter` is uniform in `[0, 1)`.
pub fn due_event(job: &Job, now: Timestamp, policy: &LeasePolicy, jitter: f64) -> Option<Event> {
    if next_due(job, policy).is_none_or(|due| due > now) {
        return None;
    }
    if job.deadline_at <= now {
        return Some(Event::DeadlinePassed);
    }
    match &job.state {
        State::Dispatched { .. } => Some(Event::RedispatchDue),
        State::Leased(lease) if lease.expires_at <= now => Some(Event::LeaseExpired { jitter }),
        State::Leased(_) => Some(Event::CancelGraceOver),
        State::RetryWait { .. } => Some(Event::RetryDue),
        State::Queued | State::Succeeded | State::Failed | State::Cancelled | State::Expired => {
            None
        }
    }
}
