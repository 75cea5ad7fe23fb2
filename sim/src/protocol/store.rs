//! A model of the store: rows, transactions, and one clock by which leases are measured.
//!
//! A verb runs in one step at the moment of its commit, so that a crash before it drops everything,
//! and one after it nothing. What the verbs decide are core's rules; see `store/`.

mod control;
mod dispatch;
mod reports;
mod sweep;

use std::collections::BTreeMap;

use stoker_core::ids::{Attempt, DispatchSeq, JobId};
use stoker_core::job::{
    AttemptOutcome, Event, Issued, Job, Refusal, StateKind, Transition, apply, attempt_ends,
};
use stoker_core::policy::JobPolicy;
use stoker_core::time::Timestamp;

use super::sabotage::Sabotage;
use super::types::{Fence, Lane, Part, Row, Spec, Tenant};

/// A job with everything that belongs to it.
#[derive(Debug, Clone)]
pub(super) struct StoredJob {
    pub(super) job: Job,
    pub(super) spec: Spec,
    pub(super) start_by: Timestamp,
    pub(super) parts: Vec<Part>,
    pub(super) attempts: BTreeMap<Attempt, Issued>,
    pub(super) retried_as: Option<JobId>,
    /// Its timers rest until then, or until it changes.
    pub(super) not_before: Timestamp,
}

/// A committed change.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) id: JobId,
    /// `None` for a new job.
    pub(super) before: Option<Job>,
    pub(super) after: Job,
    pub(super) cause: Cause,
    pub(super) effects: Vec<stoker_core::job::Effect>,
    pub(super) now: Timestamp,
}

/// What brought a change about.
#[derive(Debug, Clone)]
pub(super) enum Cause {
    Submitted,
    Pardoned,
    Event(Event),
    /// A report, with what it claimed to be of.
    Report(Fence, Event),
}

/// The store.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) policy: JobPolicy,
    pub(super) jobs: BTreeMap<JobId, StoredJob>,
    pub(super) open: std::collections::BTreeSet<JobId>,
    pub(super) outbox: BTreeMap<JobId, (DispatchSeq, Timestamp)>,
    pub(super) leader: Option<Leader>,
    keys: BTreeMap<(Tenant, u64), (Vec<Spec>, Vec<JobId>)>,
    limits: (u64, Option<u64>),
    next_job: u64,
    clock_ahead_millis: i64,
    sabotage: Option<Sabotage>,
    changes: Vec<Change>,
    changed_last: bool,
}

/// Who may dispatch and sweep, of several coordinators. Each term has a number of its own, and
/// whatever only a leader may write is refused with an old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) at: super::types::Node,
    pub(super) epoch: u64,
    pub(super) until: Timestamp,
}

impl Store {
    pub(super) fn new(
        policy: JobPolicy,
        limits: (u64, Option<u64>),
        sabotage: Option<Sabotage>,
    ) -> Self {
        Self {
            policy,
            jobs: BTreeMap::new(),
            open: std::collections::BTreeSet::new(),
            outbox: BTreeMap::new(),
            leader: None,
            keys: BTreeMap::new(),
            limits,
            next_job: 1,
            clock_ahead_millis: 0,
            sabotage,
            changes: Vec::new(),
            changed_last: false,
        }
    }

    /// What its clock shows when it really is `true_now`.
    pub(super) fn clock(&self, true_now: Timestamp) -> Timestamp {
        Timestamp::from_unix_millis(true_now.as_unix_millis() + self.clock_ahead_millis)
    }

    pub(super) fn jump(&mut self, millis: i64) {
        self.clock_ahead_millis += millis;
    }

    /// Changes since the last call, in the order of their commits.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        self.changed_last = !self.changes.is_empty();
        std::mem::take(&mut self.changes)
    }

    /// Changes of the transaction that is open.
    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether the last transaction changed nothing.
    pub(super) const fn changed_nothing(&self) -> bool {
        !self.changed_last
    }

    pub(super) fn is(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    /// Jobs of a queue in one state.
    pub(super) fn count(&self, lane: Lane, kinds: &[StateKind]) -> u64 {
        let jobs = self.open.iter().filter_map(|id| self.jobs.get(id));
        let counted = jobs
            .filter(|stored| stored.spec.lane == lane && kinds.contains(&stored.job.state.kind()));
        counted.count() as u64
    }

    /// Up to `limit` rows that no confirm has cleared, of the queues that are asked for.
    pub(super) fn outbox(&self, limit: usize, wanted: impl Fn(Lane) -> bool) -> Vec<Row> {
        let row = |(job, (seq, since)): (&JobId, &(DispatchSeq, Timestamp))| {
            let lane = self.jobs.get(job)?.spec.lane;
            let hint = super::types::Hint { job: *job, seq: *seq, lane };
            Some(Row { hint, since: *since })
        };
        let rows = self.outbox.iter().filter_map(row);
        rows.filter(|row| wanted(row.hint.lane)).take(limit).collect()
    }

    pub(super) fn clear_outbox(&mut self, rows: &[Row]) {
        for row in rows {
            if self.outbox.get(&row.hint.job).is_some_and(|(seq, _)| *seq == row.hint.seq) {
                self.outbox.remove(&row.hint.job);
            }
        }
    }

    /// Applies an event, as the production's stores do in a transaction.
    fn transit(
        &mut self,
        id: JobId,
        event: &Event,
        now: Timestamp,
        fence: Option<Fence>,
    ) -> Result<(), Refusal> {
        let Some(stored) = self.jobs.get_mut(&id) else { return Ok(()) };
        let Transition { job: after, effects } = apply(&stored.job, event, now, &self.policy)?;
        let before = std::mem::replace(&mut stored.job, after);
        stored.not_before = Timestamp::default();
        for end in attempt_ends(&before, &stored.job, event) {
            if let Some(issued) = stored.attempts.get_mut(&end.attempt) {
                issued.outcome = end.outcome;
            }
        }
        let cause = match fence {
            Some(fence) => Cause::Report(fence, event.clone()),
            None => Cause::Event(event.clone()),
        };
        self.note(id, Some(before), cause, (effects, now));
        Ok(())
    }

    fn note(
        &mut self,
        id: JobId,
        before: Option<Job>,
        cause: Cause,
        (effects, now): (Vec<stoker_core::job::Effect>, Timestamp),
    ) {
        let Some(stored) = self.jobs.get(&id) else { return };
        let after = stored.job.clone();
        if after.state.is_terminal() {
            self.open.remove(&id);
        } else {
            self.open.insert(id);
        }
        self.changes.push(Change { id, before, after, cause, effects, now });
    }

    /// The attempt that a fence names, if it exists and the token is its own.
    fn find(&self, fence: &Fence) -> Option<AttemptOutcome> {
        let issued = self.jobs.get(&fence.job)?.attempts.get(&fence.attempt)?;
        if self.is(Sabotage::NoTokenCheck) {
            return Some(issued.outcome);
        }
        issued.shown(fence.token)
    }
}
