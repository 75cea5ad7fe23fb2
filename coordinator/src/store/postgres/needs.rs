//! Which rows a call is about, so that those of a whole group are read at once.

use std::collections::{BTreeMap, BTreeSet};

use stoker_core::ids::{Attempt, JobId, TenantName, WorkerId};
use tokio::time::Instant;

use crate::store::lanes::LaneNames;
use crate::store::tables::KeyOwner;
use crate::store::{AttemptRef, Checkpoint, NewJob, Role};

/// Rows to read and lock. What is forgotten here costs time, not truth: a call that misses a row is run
/// again with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    pub(super) jobs: BTreeSet<JobId>,
    pub(super) attempts: BTreeSet<(JobId, Attempt)>,
    pub(super) inputs: BTreeSet<JobId>,
    /// Jobs whose results may be replaced.
    pub(super) results: BTreeSet<JobId>,
    /// Idempotency keys, with what they are for if they are new.
    pub(super) keys: BTreeMap<(TenantName, String), KeyOwner>,
    pub(super) lanes: Vec<LaneNames>,
    /// Jobs whose timer is due.
    pub(super) due: Option<Due>,
    /// Leased jobs, of a worker or of all.
    pub(super) leased: BTreeSet<Option<WorkerId>>,
    pub(super) roles: BTreeSet<Role>,
    /// Data that the call holds while it waits.
    pub(super) bytes: usize,
}

/// Jobs whose timer was due when somebody asked for them: a store that is held up must not take its own
/// lateness for that of workers, whose heartbeats may be waiting as well.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) asked: Instant,
    pub(super) limit: u32,
}

impl Needs {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
            && self.attempts.is_empty()
            && self.inputs.is_empty()
            && self.results.is_empty()
            && self.keys.is_empty()
            && self.lanes.is_empty()
            && self.due.is_none()
            && self.leased.is_empty()
    }

    /// How much a call is about, in jobs.
    pub(super) fn weight(&self) -> usize {
        (self.jobs.len() + self.keys.len()).max(1)
    }

    pub(super) fn merge(&mut self, other: Self) {
        let Self { jobs, attempts, inputs, results, keys, lanes, due, leased, roles, bytes } =
            other;
        self.jobs.extend(jobs);
        self.attempts.extend(attempts);
        self.inputs.extend(inputs);
        self.results.extend(results);
        self.keys.extend(keys);
        self.lanes.extend(lanes);
        self.due = due.or(self.due);
        self.leased.extend(leased);
        self.roles.extend(roles);
        self.bytes += bytes;
    }

    pub(super) fn submit(&mut self, jobs: &[NewJob]) {
        for job in jobs {
            if let Some(idempotency) = &job.idempotency {
                let owner = KeyOwner { job: job.id, digest: idempotency.request_digest };
                let key = (job.tenant.clone(), idempotency.key.clone());
                self.keys.entry(key).or_insert(owner);
            }
            let (tenant, class) = (job.tenant.clone(), job.class.clone());
            let names = LaneNames { tenant, class, lane: job.lane.clone() };
            if !self.lanes.contains(&names) {
                self.lanes.push(names);
            }
        }
    }

    pub(super) fn attempt(&mut self, attempt: &AttemptRef) {
        self.jobs.insert(attempt.job);
        self.attempts.insert((attempt.job, attempt.attempt));
    }

    pub(super) fn attempts<'a>(&mut self, attempts: impl IntoIterator<Item = &'a Checkpoint>) {
        attempts.into_iter().for_each(|checkpoint| self.attempt(&checkpoint.attempt));
    }
}
