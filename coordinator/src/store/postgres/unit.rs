//! The rows of one transaction in memory: read before the calls of a group run, written after.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use stoker_core::ids::{Attempt, DispatchSeq, JobId, LeaseToken, TenantName, WorkerId};
use stoker_core::job::{AttemptEnd, AttemptOutcome, Issued};
use stoker_core::policy::JobPolicy;
use stoker_core::request::Idempotency;
use stoker_core::time::Timestamp;
use tokio::time::Instant;

use crate::store::job_row::StoredJob;
use crate::store::lanes::{Delta, LaneId, LaneNames, SharedLanes};
use crate::store::tables::{Begun, KeyOwner, Tables};
use crate::store::{Change, Role, StoreError, StoredPart};

use super::needs::Needs;

/// What was read, what is to be written, and what was missing.
#[derive(Debug)]
pub(super) struct Unit<'a> {
    pub(super) now: Timestamp,
    pub(super) policy: &'a JobPolicy,
    pub(super) lanes: &'a SharedLanes,
    pub(super) rows: Rows,
    pub(super) writes: Writes,
    pub(super) changes: Vec<Change>,
    pub(super) deltas: Vec<Delta>,
    /// Rows that a call looked for and that were not read. Then nothing is written.
    pub(super) missing: Needs,
    /// Whether the time is the database's, and passes.
    pub(super) passing: Passing,
    /// Goes up with everything that is to be written.
    pub(super) touched: u64,
}

/// Whether time passes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passing {
    ByItself,
    /// A test sets it.
    Set,
}

/// What was read, with the group's own changes. `None`: there is no such row.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) jobs: BTreeMap<JobId, Option<JobEntry>>,
    pub(super) attempts: BTreeMap<(JobId, Attempt), Option<Issued>>,
    pub(super) inputs: BTreeMap<JobId, Option<Bytes>>,
    pub(super) spans: BTreeMap<JobId, Vec<Span>>,
    pub(super) keys: BTreeMap<(TenantName, String), Key>,
    /// Jobs whose rows make no sense, and why.
    pub(super) unreadable: BTreeMap<JobId, String>,
    pub(super) due: Vec<JobId>,
    pub(super) leased: BTreeMap<Option<WorkerId>, Vec<JobId>>,
    /// Roles that this coordinator has, and keeps until the transaction ends.
    pub(super) leading: BTreeSet<Role>,
}

#[derive(Debug)]
pub(super) struct JobEntry {
    pub(super) job: StoredJob,
    pub(super) status: Status,
}

#[derive(Debug)]
pub(super) enum Status {
    Read,
    Changed,
    New { key: Option<String>, input: Bytes },
}

/// Where a stored part lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) first_item: u32,
    pub(super) items: u32,
    pub(super) bytes: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Key {
    /// Whose row this transaction put in, so that no other takes the key.
    pub(super) reserved: Option<KeyOwner>,
    pub(super) owner: Option<KeyOwner>,
}

/// What is to be written besides jobs and keys.
#[derive(Debug, Default)]
pub(super) struct Writes {
    pub(super) begun: BTreeMap<(JobId, Attempt), BegunAttempt>,
    pub(super) ended: BTreeMap<(JobId, Attempt), AttemptEnd>,
    /// Results to remove, from an item on; before parts are added.
    pub(super) cuts: BTreeMap<JobId, u32>,
    pub(super) parts: BTreeMap<(JobId, u32), StoredPart>,
    pub(super) outbox: BTreeMap<JobId, DispatchSeq>,
    /// Timers to look at later; after the jobs are written.
    pub(super) put_off: BTreeMap<JobId, Timestamp>,
    /// Before others are put in.
    pub(super) cleared: Vec<(JobId, DispatchSeq)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct BegunAttempt {
    pub(super) worker: WorkerId,
    pub(super) token: LeaseToken,
}

impl Unit<'_> {
    /// # Errors
    /// [`StoreError::NotLeading`] when another coordinator has the role.
    pub(super) fn require(&self, role: Role) -> Result<(), StoreError> {
        if self.rows.leading.contains(&role) { Ok(()) } else { Err(StoreError::NotLeading) }
    }

    /// What time it was when a call was made.
    pub(super) fn asked_at(&self, asked: Instant) -> Timestamp {
        match self.passing {
            Passing::ByItself => self.now.before(asked.elapsed()),
            Passing::Set => self.now,
        }
    }

    /// Notes what a call looks for in vain; the call is run again with it.
    fn misses(&mut self, note: impl FnOnce(&mut Needs)) -> StoreError {
        note(&mut self.missing);
        StoreError::Overloaded
    }
}

impl Tables for Unit<'_> {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn policy(&self) -> &JobPolicy {
        self.policy
    }

    fn lanes(&self) -> &SharedLanes {
        self.lanes
    }

    fn lane_id(&mut self, names: &LaneNames) -> Result<LaneId, StoreError> {
        let known = self.lanes.id(names);
        known.ok_or_else(|| self.misses(|needs| needs.lanes.push(names.clone())))
    }

    fn job(&mut self, job: JobId) -> Result<Option<StoredJob>, StoreError> {
        if let Some(problem) = self.rows.unreadable.get(&job) {
            return Err(StoreError::Corrupt(problem.clone()));
        }
        match self.rows.jobs.get(&job) {
            Some(found) => Ok(found.as_ref().map(|entry| entry.job.clone())),
            None => Err(self.misses(|needs| needs.jobs.extend([job]))),
        }
    }

    fn save(&mut self, job: &StoredJob) -> Result<(), StoreError> {
        let Some(Some(entry)) = self.rows.jobs.get_mut(&job.job.id) else {
            return Err(StoreError::Corrupt(format!("job {} was not read", job.job.id)));
        };
        entry.job = job.clone();
        if matches!(entry.status, Status::Read) {
            entry.status = Status::Changed;
        }
        self.touched += 1;
        Ok(())
    }

    fn insert_job(
        &mut self,
        job: &StoredJob,
        key: Option<&Idempotency>,
        input: &Bytes,
    ) -> Result<(), StoreError> {
        let id = job.job.id;
        let key = key.map(|key| key.key.clone());
        let entry =
            JobEntry { job: job.clone(), status: Status::New { key, input: input.clone() } };
        self.rows.jobs.insert(id, Some(entry));
        self.rows.inputs.insert(id, Some(input.clone()));
        self.rows.spans.insert(id, Vec::new());
        self.touched += 1;
        Ok(())
    }

    fn input(&mut self, job: JobId) -> Result<Option<Bytes>, StoreError> {
        match self.rows.inputs.get(&job) {
            Some(input) => Ok(input.clone()),
            None => Err(self.misses(|needs| needs.inputs.extend([job]))),
        }
    }

    fn key_owner(
        &mut self,
        tenant: &TenantName,
        key: &str,
    ) -> Result<Option<KeyOwner>, StoreError> {
        match self.rows.keys.get(&(tenant.clone(), key.to_owned())) {
            Some(key) => Ok(key.owner),
            None => Err(StoreError::Corrupt("an idempotency key was not read".to_owned())),
        }
    }

    fn take_key(
        &mut self,
        tenant: &TenantName,
        key: &str,
        owner: KeyOwner,
    ) -> Result<(), StoreError> {
        self.rows.keys.entry((tenant.clone(), key.to_owned())).or_default().owner = Some(owner);
        self.touched += 1;
        Ok(())
    }

    fn attempt(&mut self, job: JobId, attempt: Attempt) -> Result<Option<Issued>, StoreError> {
        match self.rows.attempts.get(&(job, attempt)) {
            Some(found) => Ok(*found),
            None => Err(self.misses(|needs| needs.attempts.extend([(job, attempt)]))),
        }
    }

    fn begin_attempt(&mut self, job: JobId, begun: Begun) -> Result<(), StoreError> {
        let Begun { attempt, worker, token } = begun;
        self.rows
            .attempts
            .insert((job, attempt), Some(Issued { token, outcome: AttemptOutcome::Running }));
        self.writes.begun.insert((job, attempt), BegunAttempt { worker, token });
        self.touched += 1;
        Ok(())
    }

    fn end_attempt(&mut self, job: JobId, end: &AttemptEnd) -> Result<(), StoreError> {
        if let Some(Some(issued)) = self.rows.attempts.get_mut(&(job, end.attempt)) {
            issued.outcome = end.outcome;
        }
        self.writes.ended.insert((job, end.attempt), end.clone());
        self.touched += 1;
        Ok(())
    }

    fn insert_part(&mut self, job: JobId, part: &StoredPart) -> Result<(), StoreError> {
        if let Some(spans) = self.rows.spans.get_mut(&job) {
            let (first_item, items) = (part.first_item, part.items);
            spans.push(Span { first_item, items, bytes: part.data.len() as u64 });
        }
        self.writes.parts.insert((job, part.first_item), part.clone());
        self.touched += 1;
        Ok(())
    }

    fn cut_results(&mut self, job: JobId, first_item: u32) -> Result<Option<u64>, StoreError> {
        let Some(spans) = self.rows.spans.get_mut(&job) else {
            return Err(self.misses(|needs| needs.results.extend([job])));
        };
        let across = |span: &Span| {
            span.first_item < first_item && span.first_item.saturating_add(span.items) > first_item
        };
        if spans.iter().any(across) {
            return Ok(None);
        }
        let removed = |span: &&Span| span.first_item >= first_item;
        let bytes = spans.iter().filter(removed).map(|span| span.bytes).sum();
        spans.retain(|span| span.first_item < first_item);
        self.writes.parts.retain(|(of, first), _| *of != job || *first < first_item);
        let cut = self.writes.cuts.entry(job).or_insert(first_item);
        *cut = (*cut).min(first_item);
        self.touched += 1;
        Ok(Some(bytes))
    }

    fn put_into_outbox(&mut self, job: JobId, seq: DispatchSeq) -> Result<(), StoreError> {
        self.writes.outbox.insert(job, seq);
        self.touched += 1;
        Ok(())
    }

    fn clear_outbox(&mut self, job: JobId, seq: DispatchSeq) -> Result<(), StoreError> {
        if self.writes.outbox.get(&job) == Some(&seq) {
            self.writes.outbox.remove(&job);
        }
        self.writes.cleared.push((job, seq));
        self.touched += 1;
        Ok(())
    }

    fn put_off(&mut self, job: JobId, until: Timestamp) -> Result<(), StoreError> {
        self.writes.put_off.insert(job, until);
        self.touched += 1;
        Ok(())
    }

    fn due(&mut self, _: Timestamp, limit: u32) -> Result<Vec<JobId>, StoreError> {
        Ok(self.rows.due.iter().take(limit as usize).copied().collect())
    }

    fn leased(&mut self, worker: Option<WorkerId>) -> Result<Vec<JobId>, StoreError> {
        match self.rows.leased.get(&worker) {
            Some(jobs) => Ok(jobs.clone()),
            None => Err(self.misses(|needs| needs.leased.extend([worker]))),
        }
    }

    fn changed(&mut self, change: Change, delta: Delta) {
        self.changes.push(change);
        self.deltas.push(delta);
        self.touched += 1;
    }
}
