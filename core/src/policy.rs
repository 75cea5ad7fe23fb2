//! The numbers that the job protocol runs on: budgets, leases, delays.

use std::time::Duration;

/// How often a job may fail, and how long it waits between attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts that may end with an error of the job's own before it is dead-lettered.
    pub max_failures: u32,
    /// Times an engine process may die running it before it counts as poison.
    pub max_crashes: u32,
    /// Times the whole worker may vanish running it before it counts as poison. A vanished worker
    /// is nearly always a lost machine, so this is far above `max_crashes`; it still bounds a job
    /// that takes the machine down with it.
    pub max_lost_workers: u32,
    /// Upper bound of the first retry's delay; doubles with each failure.
    pub base_delay: Duration,
    /// Upper bound of any retry's delay.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_failures: 3,
            max_crashes: 3,
            max_lost_workers: 10,
            base_delay: Duration::from_secs(1),
            max_delay: Duration::from_mins(5),
        }
    }
}

/// How long rights and silences last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasePolicy {
    /// Life of a lease without a heartbeat.
    pub ttl: Duration,
    /// How often workers send heartbeats; several fit into a lease.
    pub heartbeat: Duration,
    /// What is left of a lease when the worker's stream breaks.
    pub disconnect_grace: Duration,
    /// How long a worker has to stop a cancelled attempt before the attempt is revoked.
    pub cancel_grace: Duration,
    /// Age at which an unclaimed message counts as lost and is sent again.
    pub redispatch_after: Duration,
    /// Longest life of one attempt, whatever its heartbeats say.
    pub max_runtime: Duration,
}

impl Default for LeasePolicy {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            disconnect_grace: Duration::from_secs(2),
            cancel_grace: Duration::from_secs(10),
            redispatch_after: Duration::from_mins(1),
            max_runtime: Duration::from_hours(1),
        }
    }
}

/// What [`crate::job::apply`] needs to know besides the job and the event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobPolicy {
    pub retry: RetryPolicy,
    pub lease: LeasePolicy,
}
