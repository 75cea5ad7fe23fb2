//! Timers, the worker that went away, amnesty, and who leads.

use std::time::Duration;

use stoker_core::ids::{JobId, WorkerId};
use stoker_core::job::{Event, State, StateKind, due_event, next_due};
use stoker_core::outbox::look_again_at;
use stoker_core::time::Timestamp;

use super::super::random::Random;
use super::super::sabotage::Sabotage;
use super::super::types::{Lane, Node};
use super::{Cause, Leader, Store, StoredJob};

/// How long a job hears no timer under [`Sabotage::DeadlineWaitsForQueue`].
const DEAF: Duration = Duration::from_secs(15);
/// How long a term lasts that is not renewed.
const TERM: Duration = Duration::from_secs(5);

impl Store {
    /// Applies what is due; answers when something will be. `intact` are queues that have lost nothing.
    pub(in super::super) fn sweep(
        &mut self,
        now: Timestamp,
        intact: &[Lane],
        random: &mut Random,
    ) -> Option<Timestamp> {
        let open: Vec<JobId> = self.open.iter().copied().collect();
        for id in open {
            self.sweep_one(id, now, intact, random.unit());
            self.redispatch_without_bound(id, now);
        }
        if self.is(Sabotage::DeadlineEndsEnded) {
            self.expire_ended(now);
        }
        let jobs = self.open.iter().filter_map(|id| self.jobs.get(id));
        let due = |stored: &StoredJob| {
            Some(next_due(&stored.job, &self.policy.lease)?.max(stored.not_before))
        };
        jobs.filter_map(due).min()
    }

    fn sweep_one(&mut self, id: JobId, now: Timestamp, intact: &[Lane], jitter: f64) {
        let Some(stored) = self.jobs.get_mut(&id).filter(|stored| stored.not_before <= now) else {
            return;
        };
        let Some(event) = due_event(&stored.job, now, &self.policy.lease, jitter) else { return };
        let redispatch = event == Event::RedispatchDue;
        if redispatch && intact.contains(&stored.spec.lane) {
            let again = look_again_at(&stored.job, now, &self.policy.lease);
            stored.not_before = if self.sabotage == Some(Sabotage::DeadlineWaitsForQueue) {
                again.after(DEAF)
            } else {
                again
            };
        } else if self.transit(id, &event, now, None).is_ok() && redispatch {
            self.put_into_outbox(id, now);
        }
    }

    fn expire_ended(&mut self, now: Timestamp) {
        let late = |stored: &&mut StoredJob| {
            stored.job.state == State::Succeeded && stored.job.deadline_at <= now
        };
        if let Some(stored) = self.jobs.values_mut().find(late) {
            let (id, before) = (stored.job.id, stored.job.clone());
            stored.job.state = State::Expired;
            self.note(id, Some(before), Cause::Event(Event::DeadlinePassed), (vec![], now));
        }
    }

    fn redispatch_without_bound(&mut self, id: JobId, now: Timestamp) {
        let dispatched =
            self.jobs.get(&id).is_some_and(|s| s.job.state.kind() == StateKind::Dispatched);
        if self.is(Sabotage::RedispatchWithoutBound) && dispatched {
            self.put_into_outbox(id, now);
        }
    }

    /// Shortens the leases of a worker whose stream broke.
    pub(in super::super) fn disconnect(&mut self, worker: WorkerId, now: Timestamp) {
        for id in self.leased() {
            // A refusal means that there is nothing to shorten.
            let _ = self.transit(id, &Event::WorkerDisconnected { worker }, now, None);
        }
    }

    /// Gives each lease a full life from now on.
    pub(in super::super) fn grant_amnesty(&mut self, now: Timestamp) -> u64 {
        if self.is(Sabotage::NoAmnesty) {
            return 0;
        }
        let mut granted = 0;
        for id in self.leased() {
            let Some(stored) = self.jobs.get_mut(&id) else { continue };
            let before = stored.job.clone();
            if let State::Leased(lease) = &mut stored.job.state {
                lease.grant_amnesty(now, &self.policy.lease);
                self.note(id, Some(before), Cause::Pardoned, (vec![], now));
                granted += 1;
            }
        }
        granted
    }

    fn leased(&self) -> Vec<JobId> {
        let leased = |id: &JobId| self.jobs.get(id).is_some_and(|s| s.job.lease().is_some());
        self.open.iter().copied().filter(leased).collect()
    }

    /// Takes or renews the lead; the term's number if `at` leads now.
    pub(in super::super) fn lead(&mut self, at: Node, now: Timestamp) -> Option<u64> {
        match self.leader {
            Some(leader) if leader.at == at => {
                self.leader = Some(Leader { until: now.after(TERM), ..leader });
                Some(leader.epoch)
            }
            Some(leader) if leader.until > now => None,
            earlier => {
                let epoch = earlier.map_or(1, |leader| leader.epoch + 1);
                self.leader = Some(Leader { at, epoch, until: now.after(TERM) });
                Some(epoch)
            }
        }
    }

    /// Whether a term is the present one.
    pub(in super::super) fn is_leader(&self, epoch: u64) -> bool {
        self.leader.is_some_and(|leader| leader.epoch == epoch)
    }
}
