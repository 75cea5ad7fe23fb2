//! What clients do: submit, read, cancel, retry.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::admission::{self, Depth, FreeDisk, Shed};
use stoker_core::fleet;
use stoker_core::ids::JobId;
use stoker_core::job::{Effect, Event, Job, State, StateKind};
use stoker_core::time::Timestamp;

use super::super::sabotage::Sabotage;
use super::super::types::{Answer, Spec, Tenant, View, job_id};
use super::{Cause, Store, StoredJob};

impl Store {
    /// Stores all jobs, or none. Checks the room first, as the production's front does.
    pub(in super::super) fn submit(
        &mut self,
        tenant: Tenant,
        key: u64,
        specs: &[Spec],
        now: Timestamp,
    ) -> Answer {
        if let Err(shed) = self.admit(tenant, specs.len()) {
            return Answer::Shed { retry_after: shed.retry_after };
        }
        if let Some((earlier, jobs)) = self.keys.get(&(tenant, key))
            && !self.is(Sabotage::KeyIgnored)
        {
            return if earlier == specs {
                Answer::Submitted(jobs.clone())
            } else {
                Answer::KeyReused
            };
        }
        let jobs: Vec<JobId> = specs.iter().map(|spec| self.insert(*spec, now)).collect();
        self.keys.insert((tenant, key), (specs.to_vec(), jobs.clone()));
        Answer::Submitted(jobs)
    }

    /// Ids that the next jobs will get.
    pub(in super::super) fn next_ids(&self, count: usize) -> Vec<JobId> {
        (self.next_job..).take(count).map(job_id).collect()
    }

    fn admit(&self, tenant: Tenant, asked: usize) -> Result<(), Shed> {
        if self.is(Sabotage::NoAdmission) {
            return Ok(());
        }
        let of_tenant = |id: &&JobId| self.jobs.get(*id).is_some_and(|s| s.spec.tenant == tenant);
        let depth = Depth {
            fleet: self.open.len() as u64,
            tenant: self.open.iter().filter(of_tenant).count() as u64,
        };
        let limits = fleet::Limits {
            max_items: u32::MAX,
            max_input_bytes: u64::MAX,
            max_text_bytes: u64::MAX,
            max_recording_bytes: u64::MAX,
            image: stoker_core::image::ImageLimits::default(),
            max_queued: self.limits.0,
            max_deadline: Duration::MAX,
            min_free_disk_bytes: 0,
        };
        let tenant = fleet::Tenant { weight: 1, max_queued: self.limits.1 };
        admission::check(asked as u64, depth, &limits, &tenant, FreeDisk::Unknown)
    }

    fn insert(&mut self, spec: Spec, now: Timestamp) -> JobId {
        let id = job_id(self.next_job);
        self.next_job += 1;
        let deadline =
            spec.deadline_secs.map_or(Timestamp::MAX, |secs| now.after(Duration::from_secs(secs)));
        let stored = StoredJob {
            job: Job::accepted(id, spec.items, now, deadline),
            spec,
            start_by: now.after(Duration::from_secs(spec.max_wait_secs)),
            parts: Vec::new(),
            attempts: BTreeMap::new(),
            retried_as: None,
            not_before: Timestamp::default(),
        };
        self.jobs.insert(id, stored);
        self.note(id, None, Cause::Submitted, (vec![Effect::WakeDispatcher], now));
        id
    }

    /// A job and its result, for the tenant that it belongs to.
    pub(in super::super) fn read(&self, tenant: Tenant, id: JobId) -> Option<View> {
        let stored = self.in_scope(tenant, id)?;
        let whole = stored.job.state == State::Succeeded
            || (self.is(Sabotage::CancelWithoutRevoking) && !stored.parts.is_empty());
        let result = whole.then(|| stored.parts.clone());
        Some(View { job: stored.job.clone(), result })
    }

    pub(in super::super) fn cancel(
        &mut self,
        tenant: Tenant,
        id: JobId,
        now: Timestamp,
    ) -> Option<StateKind> {
        self.in_scope(tenant, id)?;
        if self.is(Sabotage::CancelWithoutRevoking)
            && let Some(stored) = self.jobs.get_mut(&id)
            && stored.job.lease().is_some()
        {
            let before = stored.job.clone();
            stored.job.state = State::Cancelled;
            stored.job.finished_at = Some(now);
            self.note(id, Some(before), Cause::Event(Event::CancelGraceOver), (vec![], now));
        } else {
            // A refusal means that the job has ended.
            let _ = self.transit(id, &Event::CancelRequested, now, None);
        }
        self.jobs.get(&id).map(|stored| stored.job.state.kind())
    }

    /// Makes a new job of one that ended without a result; the same one if asked again.
    pub(in super::super) fn retry(
        &mut self,
        tenant: Tenant,
        id: JobId,
        now: Timestamp,
    ) -> Option<JobId> {
        let stored = self.in_scope(tenant, id)?;
        if stored.retried_as.is_some() {
            return stored.retried_as;
        }
        match stored.job.state.kind() {
            StateKind::Failed | StateKind::Cancelled | StateKind::Expired => {}
            StateKind::Queued
            | StateKind::Dispatched
            | StateKind::Leased
            | StateKind::RetryWait
            | StateKind::Succeeded => return None,
        }
        let spec = stored.spec;
        let new = self.insert(spec, now);
        if let Some(stored) = self.jobs.get_mut(&id) {
            stored.retried_as = Some(new);
        }
        Some(new)
    }

    fn in_scope(&self, tenant: Tenant, id: JobId) -> Option<&StoredJob> {
        let stored = self.jobs.get(&id)?;
        (stored.spec.tenant == tenant || self.is(Sabotage::NoTenantFilter)).then_some(stored)
    }
}
