//! The referee: knows what it saw, trusts nobody, and says which invariant does not hold.
//!
//! It remembers every job's last committed state by itself, so that a store that changes a row behind
//! its back is found out. Nothing of the simulated world depends on it.

mod commits;
mod observed;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stoker_core::ids::{Attempt, JobId, LeaseToken, WorkerId};
use stoker_core::job::{Job, StateKind};
use stoker_core::time::Timestamp;

use super::invariants::{Invariant, Violation};
use super::setup::Setup;
use super::tally::Tally;
use super::types::{Part, Spec, Tenant, number};

/// What the referee knows of a job.
#[derive(Debug)]
struct Known {
    spec: Spec,
    /// As of the last commit that it saw.
    last: Job,
    tokens: BTreeMap<Attempt, LeaseToken>,
    executed: BTreeSet<Attempt>,
    engines_ended: u32,
    /// Attempts that nobody reported the end of.
    unreported: u32,
    /// Items that the coordinator said are stored.
    acknowledged: u32,
    /// The result as it was when the job succeeded.
    result: Option<Vec<Part>>,
    /// The end that a reader saw.
    seen: Option<StateKind>,
    retried: u32,
}

/// A client's submit: its jobs, and what became of it.
#[derive(Debug)]
struct Submission {
    specs: Vec<Spec>,
    created: usize,
    answered: Option<Vec<JobId>>,
}

/// The referee.
#[derive(Debug)]
pub(super) struct Checker {
    setup: Setup,
    jobs: BTreeMap<JobId, Known>,
    submissions: BTreeMap<(Tenant, u64), Submission>,
    accepted: BTreeMap<JobId, Spec>,
    /// When each message was last put into the outbox for a reason.
    owed: BTreeMap<JobId, Timestamp>,
    /// Until when a worker was in trouble; [`Timestamp::MAX`] for one that is gone.
    troubled: BTreeMap<WorkerId, Timestamp>,
    /// When a coordinator or the store was away, from and to.
    outages: Vec<(Timestamp, Timestamp)>,
    /// When the store's clock jumped last.
    clock_jumped: Option<Timestamp>,
    pub(super) tally: Tally,
    violation: Option<Violation>,
}

impl Checker {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            jobs: BTreeMap::new(),
            submissions: BTreeMap::new(),
            accepted: BTreeMap::new(),
            owed: BTreeMap::new(),
            troubled: BTreeMap::new(),
            outages: Vec::new(),
            clock_jumped: None,
            tally: Tally::default(),
            violation: None,
        }
    }

    /// The first invariant that did not hold.
    pub(super) const fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Notes a violation; only the first one counts.
    pub(super) fn fail(&mut self, invariant: Invariant, seen: impl FnOnce() -> String) {
        self.violation.get_or_insert_with(|| Violation { invariant, seen: seen() });
    }

    /// As [`Checker::fail`], about a job.
    fn fail_job(&mut self, invariant: Invariant, id: JobId, seen: impl FnOnce() -> String) {
        self.fail(invariant, || format!("job {} {}", number(id), seen()));
    }

    /// Something went wrong with a worker, or between it and the rest.
    pub(super) fn trouble(&mut self, worker: WorkerId, until: Timestamp) {
        let end = self.troubled.entry(worker).or_insert(until);
        *end = until.max(*end);
    }

    /// A coordinator or the store was not there. One such time is forgiven by the amnesty and
    /// excuses nothing.
    pub(super) fn outage(&mut self, from: Timestamp, to: Timestamp) {
        self.outages.push((from, to));
    }

    /// The store's clock jumped.
    pub(super) fn clock_jumped(&mut self, now: Timestamp) {
        self.clock_jumped = Some(now);
        self.outage(now, now);
    }

    /// A clock that jumps takes the rest of an attempt's runtime with it, though not before everybody
    /// had a lease's life to be heard.
    fn jump_took_runtime(&self, now: Timestamp) -> bool {
        self.clock_jumped.is_some_and(|at| now >= at.after(self.setup.policy.lease.ttl))
    }

    /// Whether a lease of this worker may have been lost now without anybody's fault.
    fn is_excused(&self, worker: WorkerId, now: Timestamp) -> bool {
        let window = self.setup.policy.lease.ttl * 2 + Duration::from_secs(20);
        let since = now.before(window);
        let troubled = self.troubled.get(&worker).is_some_and(|until| *until >= since);
        let outages = self.outages.iter().filter(|(from, to)| *to >= since && *from <= now);
        troubled || outages.count() > 1
    }
}
