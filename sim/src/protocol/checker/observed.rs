//! What clients, workers and the broker must see, and what must be left in the end.

use std::collections::BTreeMap;

use stoker_core::dispatch::TenantQueue;
use stoker_core::ids::{Attempt, JobId};
use stoker_core::job::StateKind;
use stoker_core::time::Timestamp;

use super::super::invariants::Invariant;
use super::super::store::Store;
use super::super::tally::Bite;
use super::super::types::{Spec, Tenant, View, number};
use super::{Checker, Submission};

impl Checker {
    /// A client is about to submit, for the first time or again.
    pub(in super::super) fn submits(&mut self, tenant: Tenant, key: u64, specs: &[Spec]) {
        let new = || Submission { specs: specs.to_vec(), created: 0, answered: None };
        self.submissions.entry((tenant, key)).or_insert_with(new);
    }

    /// A submit was committed and made so many jobs.
    pub(in super::super) fn submitted(
        &mut self,
        (tenant, key): (Tenant, u64),
        created: usize,
        store: &Store,
    ) {
        let Some(submission) = self.submissions.get_mut(&(tenant, key)) else {
            return self.fail(Invariant::NothingUnexpected, || {
                format!("{created} jobs were made of a submit that nobody sent")
            });
        };
        submission.created += created;
        let (made, asked) = (submission.created, submission.specs.len());
        if made > asked {
            self.fail(Invariant::NothingUnexpected, || {
                format!("key {key} of tenant {tenant} asked for {asked} jobs and made {made}")
            });
        }
        if created == 0 {
            return self.tally.add(Bite::SameKey, 1);
        }
        let (fleet, of_tenant) = self.setup.max_queued;
        let open = store.open.len() as u64;
        let is_own = |id: &&JobId| store.jobs.get(*id).is_some_and(|s| s.spec.tenant == tenant);
        let own = store.open.iter().filter(is_own).count() as u64;
        if open > fleet || of_tenant.is_some_and(|limit| own > limit) {
            self.fail(Invariant::RoomIsLimited, || {
                format!("{open} jobs are open, {own} of tenant {tenant}")
            });
        }
    }

    /// A client was told that these jobs are accepted.
    pub(in super::super) fn accepted(
        &mut self,
        (tenant, key): (Tenant, u64),
        jobs: &[JobId],
        store: &Store,
    ) {
        let Some(submission) = self.submissions.get_mut(&(tenant, key)) else { return };
        let specs = submission.specs.clone();
        let earlier = submission.answered.get_or_insert_with(|| jobs.to_vec()).clone();
        if earlier != jobs {
            return self.fail(Invariant::NothingUnexpected, || {
                format!("key {key} of tenant {tenant} got other jobs than before")
            });
        }
        for (id, spec) in jobs.iter().zip(specs) {
            self.accepted.insert(*id, spec);
            if store.jobs.get(id).is_none_or(|stored| stored.spec != spec) {
                let what = || "was accepted and is not stored".to_owned();
                return self.fail_job(Invariant::AcceptedIsKept, *id, what);
            }
        }
    }

    /// A job was made of another.
    pub(in super::super) fn retried(&mut self, of: JobId, new: JobId, store: &Store) {
        if let Some(spec) = store.jobs.get(&new).map(|stored| stored.spec) {
            self.accepted.insert(new, spec);
        }
        let Some(known) = self.jobs.get_mut(&of) else { return };
        known.retried += 1;
        if known.retried > 1 {
            let what = || format!("was made anew twice, at last as {}", number(new));
            self.fail_job(Invariant::NothingUnexpected, of, what);
        }
        self.tally.add(Bite::Retried, 1);
    }

    /// Somebody read a job.
    pub(in super::super) fn read(&mut self, view: &View) {
        let (id, state) = (view.job.id, view.job.state.kind());
        let Some(known) = self.jobs.get_mut(&id) else { return };
        let earlier = known.seen;
        if state.is_terminal() {
            known.seen = Some(state);
        }
        let same = view.result == known.result;
        if earlier.is_some_and(|earlier| earlier != state) {
            return self.fail_job(Invariant::TerminalAbsorbs, id, || {
                format!("was seen as {earlier:?} and then as {state:?}")
            });
        }
        match (&view.result, state) {
            (Some(_), StateKind::Succeeded) if !same => {
                self.fail_job(Invariant::OneResult, id, || "shows another result".to_owned());
            }
            (Some(_), StateKind::Cancelled | StateKind::Expired) => {
                let what = || format!("is {} and has a result", state.name());
                self.fail_job(Invariant::NoLateResult, id, what);
            }
            (None, StateKind::Succeeded) => {
                let what = || "succeeded and has no result".to_owned();
                self.fail_job(Invariant::TerminalAbsorbs, id, what);
            }
            _ => {}
        }
    }

    /// The coordinator told a worker that the items up to this one are stored.
    pub(in super::super) fn acknowledged(&mut self, id: JobId, items: u32) {
        if let Some(known) = self.jobs.get_mut(&id) {
            known.acknowledged = known.acknowledged.max(items);
        }
    }

    /// A worker begins to run an attempt.
    pub(in super::super) fn executes(&mut self, id: JobId, attempt: Attempt) {
        let calm = self.setup.is_calm();
        let Some(known) = self.jobs.get_mut(&id) else { return };
        let twice = !known.executed.insert(attempt);
        let times = known.executed.len();
        if twice {
            let what = || format!("runs attempt {attempt} a second time");
            return self.fail_job(Invariant::ExecutionsAreBounded, id, what);
        }
        if calm && times > 1 {
            let what = || format!("runs {times} times without any fault");
            self.fail_job(Invariant::ExecutionsAreBounded, id, what);
        }
    }

    /// An engine died of a job.
    pub(in super::super) fn engine_ended(&mut self, id: JobId) {
        self.tally.add(Bite::CrashedEngines, 1);
        let most = self.setup.policy.retry.max_crashes;
        let Some(known) = self.jobs.get_mut(&id) else { return };
        known.engines_ended += 1;
        let (ended, allowed) = (known.engines_ended, most + known.unreported);
        if ended > allowed {
            let what = || format!("ended {ended} engines");
            self.fail_job(Invariant::BudgetsHold, id, what);
        }
    }

    /// The dispatcher chose jobs out of what waits in a queue.
    pub(in super::super) fn chosen(&mut self, queues: &[TenantQueue], chosen: &[JobId]) {
        let got = |queue: &TenantQueue| {
            queue.heads.iter().filter(|head| chosen.contains(&head.job)).count()
        };
        let counts: BTreeMap<&str, usize> =
            queues.iter().map(|queue| (queue.tenant.as_str(), got(queue))).collect();
        for a in queues {
            let places = counts.get(a.tenant.as_str()).copied().unwrap_or(0);
            if places == 0 {
                continue;
            }
            for b in queues {
                let given = counts.get(b.tenant.as_str()).copied().unwrap_or(0);
                if given == b.heads.len() {
                    continue;
                }
                // What `a` has with its last place against what `b` would have with one more.
                let mine = (u64::from(a.in_flight) + places as u64) * u64::from(b.weight);
                let theirs = (u64::from(b.in_flight) + given as u64 + 1) * u64::from(a.weight);
                if mine > theirs {
                    return self.fail(Invariant::TenantsAreApart, || {
                        format!("{} got a place that is {}'s share", a.tenant, b.tenant)
                    });
                }
            }
        }
    }

    /// Every row of the outbox must be there for a reason.
    pub(in super::super) fn check_outbox(&mut self, store: &Store) {
        for (id, (_, since)) in &store.outbox {
            if self.owed.get(id) != Some(since) {
                return self.fail_job(Invariant::RedispatchIsRare, *id, || {
                    "is sent again although its message may still be claimed".to_owned()
                });
            }
        }
    }

    /// All messages are sent again, since the queues were lost.
    pub(in super::super) fn republished(&mut self, store: &Store) {
        for (id, (_, since)) in &store.outbox {
            self.owed.insert(*id, *since);
        }
    }

    /// A sweep went through.
    pub(in super::super) fn swept(&mut self, store: &Store, now: Timestamp) {
        let jobs = store.open.iter().filter_map(|id| store.jobs.get(id));
        if let Some(late) = jobs.map(|stored| &stored.job).find(|job| job.deadline_at <= now) {
            let (id, deadline) = (late.id, late.deadline_at);
            self.fail_job(Invariant::DeadlinesAreKept, id, || {
                format!("is open at {now}, and its deadline was {deadline}")
            });
        }
    }

    /// A refusal of a report, for the tally.
    pub(in super::super) fn no_use(&mut self, id: JobId) {
        let ended = self.jobs.get(&id).is_some_and(|known| known.last.state.is_terminal());
        let bite = if ended { Bite::LateResults } else { Bite::FencedReports };
        self.tally.add(bite, 1);
    }

    /// After everything has come to rest.
    pub(in super::super) fn finish(&mut self, store: &Store, now: Timestamp) {
        let accepted: Vec<JobId> = self.accepted.keys().copied().collect();
        for id in accepted {
            match store.jobs.get(&id) {
                None => {
                    let what = || "was accepted and is gone".to_owned();
                    self.fail_job(Invariant::AcceptedIsKept, id, what);
                }
                Some(stored) if !stored.job.state.is_terminal() => {
                    let kind = stored.job.state.kind();
                    self.fail_job(Invariant::NothingWaitsForEver, id, || {
                        format!("is still {} at {now}", kind.name())
                    });
                }
                Some(_) => {}
            }
        }
        for (id, stored) in &store.jobs {
            let Some(known) = self.jobs.get(id) else { continue };
            if let Some(result) = &known.result
                && *result != stored.parts
            {
                let what = || "has another result in the end".to_owned();
                return self.fail_job(Invariant::OneResult, *id, what);
            }
        }
    }
}
