//! What must hold of every single commit.

use stoker_core::ids::{Attempt, JobId};
use stoker_core::job::{
    Budgets, Effect, Event, FailureKind, FailureReason, Job, ReleaseReason, State, StateKind,
};
use stoker_core::retry;
use stoker_core::time::Timestamp;

use super::super::invariants::Invariant;
use super::super::store::{Cause, Change, Store};
use super::super::tally::Bite;
use super::super::types::{Fence, Nature, Part, output};
use super::{Checker, Known};

impl Checker {
    /// Looks at a committed change; `true_now` is the time that no fault moves.
    pub(in super::super) fn committed(
        &mut self,
        change: &Change,
        store: &Store,
        true_now: Timestamp,
    ) {
        let id = change.id;
        if change.effects.iter().any(|effect| matches!(effect, Effect::Publish { .. })) {
            self.owed.insert(id, change.now);
        }
        let Some(mut known) = self.jobs.remove(&id) else {
            self.begun(change, store);
            return;
        };
        let last = std::mem::replace(&mut known.last, change.after.clone());
        self.check_path(&last, change);
        self.check_report(&known, &last, change);
        match &change.cause {
            Cause::Event(event) | Cause::Report(_, event) => {
                self.check_attempts(&mut known, &last, change, event);
                self.check_budgets(&last, change, event);
                self.check_wait(change, event);
                self.check_excuse(&mut known, &last, (change, event), true_now);
                self.count(&last, &change.after, event);
            }
            Cause::Submitted | Cause::Pardoned => {}
        }
        self.check_end(&mut known, change, store);
        self.jobs.insert(id, known);
    }

    fn begun(&mut self, change: &Change, store: &Store) {
        let Some(stored) = store.jobs.get(&change.id) else { return };
        if change.before.is_some() || !matches!(change.cause, Cause::Submitted) {
            self.fail_job(Invariant::NothingUnexpected, change.id, || "was never made".to_owned());
        }
        let known = Known {
            spec: stored.spec,
            last: change.after.clone(),
            tokens: std::collections::BTreeMap::new(),
            executed: std::collections::BTreeSet::new(),
            engines_ended: 0,
            unreported: 0,
            acknowledged: 0,
            result: None,
            seen: None,
            retried: 0,
        };
        self.jobs.insert(change.id, known);
    }

    fn check_path(&mut self, last: &Job, change: &Change) {
        let (from, to) = (last.state.kind(), change.after.state.kind());
        if from.is_terminal() {
            return self.fail_job(Invariant::TerminalAbsorbs, change.id, || {
                format!("was {} and changed by {:?}", from.name(), change.cause)
            });
        }
        let event = match &change.cause {
            Cause::Event(event) | Cause::Report(_, event) => event,
            Cause::Pardoned if from == to => return,
            Cause::Submitted | Cause::Pardoned => {
                return self.fail_job(Invariant::TerminalAbsorbs, change.id, || {
                    format!("went from {} to {} without an event", from.name(), to.name())
                });
            }
        };
        if !is_path(from, event, to) {
            let invariant = if from == StateKind::Leased && to == StateKind::Leased {
                Invariant::AttemptsIncrease
            } else {
                Invariant::TerminalAbsorbs
            };
            self.fail_job(invariant, change.id, || {
                format!("went from {} to {} by {event:?}", from.name(), to.name())
            });
        }
    }

    fn check_report(&mut self, known: &Known, last: &Job, change: &Change) {
        let Cause::Report(fence, event) = &change.cause else { return };
        let Fence { attempt, token, .. } = fence;
        if known.tokens.get(attempt) != Some(token) {
            return self.fail_job(Invariant::AttemptsIncrease, change.id, || {
                format!("was changed by somebody without the token of attempt {attempt}: {event:?}")
            });
        }
        let current = last.lease().map(|lease| lease.attempt);
        let succeeded = matches!(event, Event::Completed { .. });
        if current != Some(*attempt) && !succeeded {
            self.fail_job(Invariant::StaleIsFenced, change.id, || {
                format!("was changed by attempt {attempt} while {current:?} was current: {event:?}")
            });
        }
    }

    fn check_attempts(&mut self, known: &mut Known, last: &Job, change: &Change, event: &Event) {
        let (before, after) = (last.last_attempt, change.after.last_attempt);
        let next = before.map_or(1, |attempt| attempt.number() + 1);
        let claimed = matches!(event, Event::Claimed { .. });
        let expected = if claimed { Some(next) } else { before.map(Attempt::number) };
        if after.map(Attempt::number) != expected {
            return self.fail_job(Invariant::AttemptsIncrease, change.id, || {
                format!("went from attempt {before:?} to {after:?} by {event:?}")
            });
        }
        if !claimed {
            return;
        }
        if let Some(lease) = change.after.lease() {
            known.tokens.insert(lease.attempt, lease.token);
        }
        let (begins, stored) = (change.after.items_done, known.acknowledged);
        if begins > 0 {
            self.tally.add(Bite::Resumed, 1);
        }
        if begins < stored {
            self.fail_job(Invariant::WorkIsKept, change.id, || {
                format!("begins at item {begins}, but {stored} were acknowledged")
            });
        }
    }

    fn check_budgets(&mut self, last: &Job, change: &Change, event: &Event) {
        let after = &change.after;
        let expected = spent_by(last, after, event);
        if !expected.contains(&after.spent) {
            return self.fail_job(Invariant::BudgetsHold, change.id, || {
                format!("has spent {:?} after {event:?} on {:?}", after.spent, last.spent)
            });
        }
        let policy = &self.setup.policy.retry;
        let spent = after.spent.failures >= policy.max_failures
            || after.spent.crashes >= policy.max_crashes
            || after.spent.lost_workers >= policy.max_lost_workers;
        if spent && !after.state.is_terminal() {
            self.fail_job(Invariant::BudgetsHold, change.id, || {
                format!("goes on although it has spent {:?}", after.spent)
            });
        }
    }

    fn check_wait(&mut self, change: &Change, event: &Event) {
        let lease = &self.setup.policy.lease;
        match (event, &change.before, &change.after.state) {
            (Event::AttemptFailed { jitter, .. }, _, State::RetryWait { until }) => {
                let failures = change.after.spent.failures;
                let delay = retry::delay(&self.setup.policy.retry, failures, *jitter);
                let due = change.now.after(delay);
                if *until != due {
                    self.fail_job(Invariant::RetriesWait, change.id, || {
                        format!("is retried at {until} and not at {due}")
                    });
                }
            }
            (Event::RedispatchDue, Some(before), _) => {
                let early = match before.state {
                    State::Dispatched { at } => change.now < at.after(lease.redispatch_after),
                    State::Queued
                    | State::Leased(_)
                    | State::RetryWait { .. }
                    | State::Succeeded
                    | State::Failed
                    | State::Cancelled
                    | State::Expired => true,
                };
                if early {
                    let what = || "was sent again before its time".to_owned();
                    self.fail_job(Invariant::RedispatchIsRare, change.id, what);
                }
            }
            _ => {}
        }
    }

    /// An attempt ends without its own doing only if something was wrong with its worker.
    fn check_excuse(
        &mut self,
        known: &mut Known,
        last: &Job,
        (change, event): (&Change, &Event),
        true_now: Timestamp,
    ) {
        let Some(lease) = last.lease() else { return };
        match event {
            Event::LeaseExpired { .. } => {
                known.unreported += 1;
                let overdue = change.now >= lease.must_end_by;
                let endless = known.spec.nature == Nature::Endless;
                if overdue && (endless || self.jump_took_runtime(true_now)) {
                    return;
                }
                self.tally.add(Bite::ExpiredLeases, u64::from(!overdue));
            }
            Event::Released { .. } if change.after.state == State::Queued => {
                known.unreported += 1;
                self.tally.add(Bite::HandedBack, 1);
            }
            _ => return,
        }
        if !self.is_excused(lease.worker, true_now) {
            self.fail_job(Invariant::ExecutionsAreBounded, change.id, || {
                format!("lost attempt {} on a worker that was well: {event:?}", lease.attempt)
            });
        }
    }

    fn check_end(&mut self, known: &mut Known, change: &Change, store: &Store) {
        let Some(stored) = store.jobs.get(&change.id) else { return };
        match change.after.state {
            State::Succeeded => {
                known.result = Some(stored.parts.clone());
                self.check_result(change.id, known, &stored.parts);
            }
            State::Failed => self.check_failure(change, known),
            State::Expired => self.tally.add(Bite::Expired, 1),
            State::Queued
            | State::Dispatched { .. }
            | State::Leased(_)
            | State::RetryWait { .. }
            | State::Cancelled => {}
        }
    }

    pub(super) fn check_result(&mut self, id: JobId, known: &Known, parts: &[Part]) {
        let mut next = 0;
        for part in parts {
            if part.first_item != next {
                let first = part.first_item;
                return self.fail_job(Invariant::TerminalAbsorbs, id, || {
                    format!("has a result with a part from {first} where {next} was expected")
                });
            }
            next = part.span().end();
        }
        if next != known.spec.items {
            return self.fail_job(Invariant::TerminalAbsorbs, id, || {
                format!("succeeded with {next} of {} items", known.spec.items)
            });
        }
        if parts.iter().any(|part| part.content != output(known.spec.input)) {
            let what = || "has results that are not those of its input".to_owned();
            self.fail_job(Invariant::RightContent, id, what);
        }
    }

    fn check_failure(&mut self, change: &Change, known: &Known) {
        self.tally.add(Bite::DeadLetters, 1);
        let Some(failure) = &change.after.failure else {
            let what = || "failed without a reason".to_owned();
            return self.fail_job(Invariant::BudgetsHold, change.id, what);
        };
        let policy = &self.setup.policy.retry;
        let deserved = match (failure.reason, known.spec.nature) {
            (FailureReason::Permanent, Nature::Broken)
            | (FailureReason::RetriesExhausted, Nature::Endless) => true,
            (FailureReason::RetriesExhausted, _) if self.clock_jumped.is_some() => true,
            (FailureReason::RetriesExhausted, Nature::Flaky(times)) => times >= policy.max_failures,
            // Workers vanish whatever they run.
            (FailureReason::Poison, _) if failure.code == "WORKER_LOST" => true,
            (FailureReason::Poison, Nature::Crashing(times)) => {
                // Its neighbors may have been poison, too, once.
                times.saturating_add(1) >= policy.max_crashes
            }
            _ => false,
        };
        if !deserved {
            let nature = known.spec.nature;
            self.fail_job(Invariant::BudgetsHold, change.id, || {
                format!("is {nature:?} and failed as {failure:?}")
            });
        }
    }

    fn count(&mut self, last: &Job, after: &Job, event: &Event) {
        match event {
            Event::RedispatchDue => self.tally.add(Bite::Redispatched, 1),
            Event::AttemptFailed { .. } => self.tally.add(Bite::FailedAttempts, 1),
            Event::CancelRequested if last.lease().is_some() => {
                self.tally.add(Bite::CancelledRunning, 1);
            }
            Event::Completed { attempt } => {
                let current = last.lease().is_some_and(|lease| lease.attempt == *attempt);
                let late = !current && after.state == State::Succeeded;
                self.tally.add(Bite::LateSuccesses, u64::from(late));
            }
            _ => {}
        }
    }
}

/// The arrows of the state machine, as ARCHITECTURE.md draws them.
fn is_path(from: StateKind, event: &Event, to: StateKind) -> bool {
    use StateKind::{Cancelled, Dispatched, Expired, Failed, Leased, Queued, RetryWait, Succeeded};
    match event {
        Event::DispatchChosen => (from, to) == (Queued, Dispatched),
        Event::RedispatchDue => (from, to) == (Dispatched, Dispatched),
        Event::Claimed { .. } => (from, to) == (Dispatched, Leased),
        Event::HeartbeatReceived { .. } | Event::WorkerDisconnected { .. } => {
            (from, to) == (Leased, Leased)
        }
        Event::Completed { .. } => to == Succeeded,
        Event::AttemptFailed { .. } => {
            from == Leased && matches!(to, RetryWait | Queued | Failed | Cancelled)
        }
        Event::Released { .. } => from == Leased && matches!(to, Queued | Cancelled),
        Event::LeaseExpired { .. } => {
            from == Leased && matches!(to, Queued | RetryWait | Failed | Cancelled)
        }
        Event::RetryDue => (from, to) == (RetryWait, Queued),
        Event::CancelRequested => to == if from == Leased { Leased } else { Cancelled },
        Event::CancelGraceOver => (from, to) == (Leased, Cancelled),
        Event::DeadlinePassed => to == Expired,
    }
}

/// What budgets may be after an event.
fn spent_by(last: &Job, after: &Job, event: &Event) -> Vec<Budgets> {
    let spent = last.spent;
    let failure = Budgets { failures: spent.failures + 1, ..spent };
    let crash = Budgets { crashes: spent.crashes + 1, ..spent };
    let vanished = Budgets { lost_workers: spent.lost_workers + 1, ..spent };
    let interrupted = Budgets { interruptions: spent.interruptions + 1, ..spent };
    if after.state == State::Cancelled {
        return vec![spent];
    }
    match event {
        Event::AttemptFailed { error, .. } => match error.kind {
            FailureKind::Retryable => vec![failure],
            FailureKind::Crash => vec![crash],
            FailureKind::Permanent => vec![spent],
        },
        Event::LeaseExpired { .. } => vec![failure, vanished],
        Event::Released { reason: ReleaseReason::Stopped, .. } => vec![spent],
        Event::Released { .. } => vec![interrupted],
        _ => vec![spent],
    }
}
