//! What waits, its way into the outbox, and claims.

use stoker_core::dispatch::{Head, TenantQueue};
use stoker_core::ids::{JobId, LeaseToken, TenantName, WorkerId};
use stoker_core::job::{
    AttemptOutcome, ClaimAnswer, Event, Issued, State, StateKind, answer_claim,
};
use stoker_core::time::Timestamp;

use super::super::sabotage::Sabotage;
use super::super::types::{Answer, Claim, Fence, Grant, Hint, Lane, Row, Tenant};
use super::Store;

/// A tenant's share under contention.
pub(in super::super) fn weight(tenant: Tenant) -> u32 {
    u32::try_from(tenant).unwrap_or(0) + 1
}

impl Store {
    /// What waits in a queue, by tenant: up to `heads` jobs each, least slack first.
    pub(in super::super) fn waiting(
        &self,
        lane: Lane,
        heads: u32,
        tenants: usize,
    ) -> Vec<TenantQueue> {
        (0..tenants).filter_map(|tenant| self.waiting_of(lane, tenant, heads)).collect()
    }

    fn waiting_of(&self, lane: Lane, tenant: Tenant, most: u32) -> Option<TenantQueue> {
        let mut queue = TenantQueue {
            tenant: TenantName::new(&format!("t{tenant}")).ok()?,
            weight: weight(tenant),
            in_flight: 0,
            heads: Vec::new(),
        };
        for id in &self.open {
            let Some(stored) = self.jobs.get(id) else { continue };
            if stored.spec.lane != lane || stored.spec.tenant != tenant {
                continue;
            }
            match stored.job.state.kind() {
                StateKind::Queued => {
                    queue.heads.push(Head { job: *id, start_by: stored.start_by });
                }
                StateKind::Dispatched | StateKind::Leased => queue.in_flight += 1,
                StateKind::RetryWait
                | StateKind::Succeeded
                | StateKind::Failed
                | StateKind::Cancelled
                | StateKind::Expired => {}
            }
        }
        queue.heads.sort_by_key(|head| (head.start_by, head.job));
        queue.heads.truncate(most as usize);
        (!queue.heads.is_empty() || queue.in_flight > 0).then_some(queue)
    }

    /// Releases those of the jobs that still wait, and puts them into the outbox.
    pub(in super::super) fn dispatch(&mut self, jobs: &[JobId], now: Timestamp) -> Vec<Row> {
        let mut rows = Vec::with_capacity(jobs.len());
        for id in jobs {
            if self.transit(*id, &Event::DispatchChosen, now, None).is_ok() {
                rows.extend(self.put_into_outbox(*id, now));
            }
        }
        rows
    }

    pub(super) fn put_into_outbox(&mut self, id: JobId, now: Timestamp) -> Option<Row> {
        let stored = self.jobs.get(&id)?;
        let (seq, lane) = (stored.job.dispatch_seq, stored.spec.lane);
        self.outbox.insert(id, (seq, now));
        Some(Row { hint: Hint { job: id, seq, lane }, since: now })
    }

    /// Puts every dispatched job into the outbox again: what the queues held may be lost.
    pub(in super::super) fn republish(&mut self, now: Timestamp) {
        let dispatched = |id: &JobId| {
            self.jobs.get(id).is_some_and(|s| s.job.state.kind() == StateKind::Dispatched)
        };
        let jobs: Vec<JobId> = self.open.iter().copied().filter(dispatched).collect();
        for id in jobs {
            self.put_into_outbox(id, now);
        }
    }

    pub(in super::super) fn claim(
        &mut self,
        worker: WorkerId,
        claim: &Claim,
        token: LeaseToken,
        now: Timestamp,
    ) -> Answer {
        let Some(stored) = self.jobs.get_mut(&claim.job) else { return Answer::Unknown };
        match answer_claim(&stored.job, claim.seq, claim.id) {
            ClaimAnswer::Refuse(refusal) => return Answer::Refused(refusal),
            ClaimAnswer::GrantedBefore => {
                if self.sabotage != Some(Sabotage::ClaimForgotten) {
                    return self.grant(claim);
                }
                stored.job.state = State::Dispatched { at: now };
            }
            ClaimAnswer::Grant => {
                if self.sabotage == Some(Sabotage::StoredPartsForgotten) {
                    stored.parts.clear();
                    stored.job.items_done = 0;
                }
            }
        }
        let (seq, id) = (claim.seq, claim.id);
        let event = Event::Claimed { seq, claim: id, worker, token };
        if self.transit(claim.job, &event, now, None).is_err() {
            return Answer::Unknown;
        }
        if let Some(stored) = self.jobs.get_mut(&claim.job)
            && let Some(lease) = stored.job.lease()
        {
            let issued = Issued { token, outcome: AttemptOutcome::Running };
            stored.attempts.insert(lease.attempt, issued);
        }
        self.grant(claim)
    }

    fn grant(&self, claim: &Claim) -> Answer {
        let Some(stored) = self.jobs.get(&claim.job) else { return Answer::Unknown };
        let Some(lease) = stored.job.lease() else { return Answer::Unknown };
        let mut spec = stored.spec;
        if self.is(Sabotage::InputsMixedUp)
            && let Some(other) = self.jobs.values().next()
        {
            spec.input = other.spec.input;
        }
        Answer::Granted(Box::new(Grant {
            fence: Fence { job: claim.job, attempt: lease.attempt, token: lease.token },
            first_item: stored.job.items_done,
            alone: stored.job.run_alone,
            spec,
        }))
    }
}
