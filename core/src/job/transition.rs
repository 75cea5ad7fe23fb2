//! The state machine: one function per event, one place that applies them.

use crate::ids::{Attempt, ClaimId, DispatchSeq, LeaseToken, WorkerId};
use crate::policy::JobPolicy;
use crate::retry;
use crate::time::Timestamp;

use super::claim::{ClaimAnswer, ClaimRefusal, answer_claim};
use super::event::{AttemptError, Effect, Event, FailureKind, ReleaseReason};
use super::state::{Failure, FailureReason, Job, Lease, State, StateKind};

/// A job after an event, and what has to be done once it is committed.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub job: Job,
    pub effects: Vec<Effect>,
}

/// Why an event changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The job has ended; terminal states never change.
    #[error("the job is {} and stays so", .0.name())]
    Terminal(StateKind),
    /// The event is of an attempt that is not the current one.
    #[error("attempt {0} is not the job's current attempt")]
    NotCurrent(Attempt),
    /// The claim was refused.
    #[error("the claim is refused: {0:?}")]
    Claim(ClaimRefusal),
    /// The event is not due yet, or came too late: the job moved on.
    #[error("a {} job is not waiting for this", .0.name())]
    NotDue(StateKind),
}

/// Applies `event` at `now`. The job is returned changed, or the reason why it is not.
///
/// Callers guarantee that `now` does not run backwards for one job by more than clock slack; a
/// smaller `now` delays timers and breaks nothing.
pub fn apply(
    job: &Job,
    event: &Event,
    now: Timestamp,
    policy: &JobPolicy,
) -> Result<Transition, Refusal> {
    if job.state.is_terminal() {
        return Err(Refusal::Terminal(job.state.kind()));
    }
    let step = Step { job: job.clone(), now, policy };
    match event {
        Event::DispatchChosen => step.dispatch(),
        Event::RedispatchDue => step.redispatch(),
        Event::Claimed { seq, claim, worker, token } => step.claim(*seq, *claim, *worker, *token),
        Event::HeartbeatReceived { attempt, items_done } => step.heartbeat(*attempt, *items_done),
        Event::WorkerDisconnected { worker } => step.disconnect(*worker),
        Event::Completed { attempt } => step.complete(*attempt),
        Event::AttemptFailed { attempt, error, jitter } => step.fail(*attempt, error, *jitter),
        Event::Released { attempt, reason, items_done } => {
            step.release(*attempt, *reason, *items_done)
        }
        Event::LeaseExpired { jitter } => step.expire_lease(*jitter),
        Event::RetryDue => step.retry(),
        Event::CancelRequested => step.cancel(),
        Event::CancelGraceOver => step.revoke(),
        Event::DeadlinePassed => step.pass_deadline(),
    }
}

/// A job on its way from one state to the next.
struct Step<'a> {
    job: Job,
    now: Timestamp,
    policy: &'a JobPolicy,
}

impl Step<'_> {
    fn dispatch(mut self) -> Result<Transition, Refusal> {
        if self.job.state != State::Queued {
            return self.not_due();
        }
        self.job.dispatch_seq = self.job.dispatch_seq.next();
        self.publish()
    }

    fn redispatch(self) -> Result<Transition, Refusal> {
        // The same number again: whichever copy is claimed first wins, the other is stale.
        if let State::Dispatched { at } = self.job.state
            && self.now >= at.after(self.policy.lease.redispatch_after)
        {
            return self.publish();
        }
        self.not_due()
    }

    fn publish(mut self) -> Result<Transition, Refusal> {
        self.job.state = State::Dispatched { at: self.now };
        let seq = self.job.dispatch_seq;
        self.done(vec![Effect::Publish { seq }])
    }

    fn claim(
        mut self,
        seq: DispatchSeq,
        claim: ClaimId,
        worker: WorkerId,
        token: LeaseToken,
    ) -> Result<Transition, Refusal> {
        match answer_claim(&self.job, seq, claim) {
            ClaimAnswer::Grant => {}
            ClaimAnswer::GrantedBefore => return Err(Refusal::Claim(ClaimRefusal::Busy)),
            ClaimAnswer::Refuse(reason) => return Err(Refusal::Claim(reason)),
        }
        let attempt = self.job.last_attempt.map_or(Attempt::FIRST, Attempt::next);
        let must_end_by = self.now.after(self.policy.lease.max_runtime).min(self.job.deadline_at);
        let expires_at = self.now.after(self.policy.lease.ttl).min(must_end_by);
        self.job.last_attempt = Some(attempt);
        self.job.started_at.get_or_insert(self.now);
        self.job.state = State::Leased(Lease {
            attempt,
            token,
            worker,
            claim,
            expires_at,
            must_end_by,
            cancel_requested_at: None,
        });
        self.done(vec![])
    }

    fn heartbeat(mut self, attempt: Attempt, items_done: u32) -> Result<Transition, Refusal> {
        let until = self.now.after(self.policy.lease.ttl);
        let lease = self.current(attempt)?;
        lease.expires_at = until.min(lease.must_end_by);
        self.advance(items_done);
        self.done(vec![])
    }

    fn disconnect(mut self, worker: WorkerId) -> Result<Transition, Refusal> {
        let grace_ends = self.now.after(self.policy.lease.disconnect_grace);
        if let State::Leased(lease) = &mut self.job.state
            && lease.worker == worker
            && lease.expires_at > grace_ends
        {
            lease.expires_at = grace_ends;
            return self.done(vec![Effect::WakeSweeper { at: grace_ends }]);
        }
        self.not_due()
    }

    /// Any attempt's success wins: it is the same single effect, and it saves a GPU run.
    fn complete(mut self, attempt: Attempt) -> Result<Transition, Refusal> {
        if self.job.last_attempt.is_none_or(|last| attempt > last) {
            return Err(Refusal::NotCurrent(attempt));
        }
        let effects = match self.job.lease() {
            Some(lease) if lease.attempt != attempt => {
                vec![Effect::StopAttempt { worker: lease.worker, attempt: lease.attempt }]
            }
            _ => vec![],
        };
        self.job.items_done = self.job.items_total;
        self.job.failure = None;
        self.finish(State::Succeeded, effects)
    }

    fn fail(
        mut self,
        attempt: Attempt,
        error: &AttemptError,
        jitter: f64,
    ) -> Result<Transition, Refusal> {
        if self.current(attempt)?.cancel_requested_at.is_some() {
            return self.finish(State::Cancelled, vec![]);
        }
        match error.kind {
            FailureKind::Permanent => self.dead_letter(failure(FailureReason::Permanent, error)),
            FailureKind::Crash => {
                self.job.spent.crashes += 1;
                self.job.run_alone = true;
                if self.job.spent.crashes >= self.policy.retry.max_crashes {
                    return self.dead_letter(failure(FailureReason::Poison, error));
                }
                self.requeue()
            }
            FailureKind::Retryable => {
                self.job.spent.failures += 1;
                let failure = failure(FailureReason::RetriesExhausted, error);
                if self.job.spent.failures >= self.policy.retry.max_failures {
                    return self.dead_letter(failure);
                }
                let delay = retry::delay(&self.policy.retry, self.job.spent.failures, jitter);
                let until = self.now.after(delay);
                self.job.failure = Some(failure);
                self.job.state = State::RetryWait { until };
                self.done(vec![Effect::WakeSweeper { at: until }])
            }
        }
    }

    fn release(
        mut self,
        attempt: Attempt,
        reason: ReleaseReason,
        items_done: u32,
    ) -> Result<Transition, Refusal> {
        let cancelled = self.current(attempt)?.cancel_requested_at.is_some();
        self.advance(items_done);
        if cancelled {
            return self.finish(State::Cancelled, vec![]);
        }
        match reason {
            ReleaseReason::Draining | ReleaseReason::Interrupted | ReleaseReason::Unavailable => {
                self.job.spent.interruptions += 1;
            }
            // The worker was told to stop, but the cancel is not known here: give it to another.
            ReleaseReason::Stopped => {}
        }
        self.requeue()
    }

    fn expire_lease(mut self, jitter: f64) -> Result<Transition, Refusal> {
        let State::Leased(lease) = &self.job.state else { return self.not_due() };
        if lease.expires_at > self.now {
            return self.not_due();
        }
        let (attempt, worker) = (lease.attempt, lease.worker);
        if lease.cancel_requested_at.is_some() {
            return self.finish(State::Cancelled, vec![]);
        }
        if self.now >= lease.must_end_by && self.now < self.job.deadline_at {
            let error = AttemptError {
                kind: FailureKind::Retryable,
                code: "RUNTIME_EXCEEDED".to_owned(),
                message: format!("attempt {attempt} ran longer than the longest runtime allowed"),
            };
            let mut transition = self.fail(attempt, &error, jitter)?;
            transition.effects.push(Effect::StopAttempt { worker, attempt });
            return Ok(transition);
        }
        self.job.spent.lost_workers += 1;
        let lost = self.job.spent.lost_workers;
        if lost >= self.policy.retry.max_lost_workers {
            return self.dead_letter(Failure {
                reason: FailureReason::Poison,
                code: "WORKER_LOST".to_owned(),
                message: format!("{lost} workers vanished while they ran this job"),
            });
        }
        self.requeue()
    }

    fn retry(self) -> Result<Transition, Refusal> {
        if let State::RetryWait { until } = self.job.state
            && self.now >= until
        {
            return self.requeue();
        }
        self.not_due()
    }

    fn cancel(mut self) -> Result<Transition, Refusal> {
        if let State::Leased(lease) = &mut self.job.state {
            let requested_at = *lease.cancel_requested_at.get_or_insert(self.now);
            let revoked_at = requested_at.after(self.policy.lease.cancel_grace);
            let effects = vec![
                Effect::StopAttempt { worker: lease.worker, attempt: lease.attempt },
                Effect::WakeSweeper { at: revoked_at },
            ];
            return self.done(effects);
        }
        self.finish(State::Cancelled, vec![])
    }

    fn revoke(self) -> Result<Transition, Refusal> {
        match self.job.lease().and_then(|lease| lease.cancel_requested_at) {
            Some(at) if self.now >= at.after(self.policy.lease.cancel_grace) => {
                self.finish(State::Cancelled, vec![])
            }
            _ => self.not_due(),
        }
    }

    fn pass_deadline(self) -> Result<Transition, Refusal> {
        if self.now < self.job.deadline_at {
            return self.not_due();
        }
        let effects = self
            .job
            .lease()
            .map(|lease| Effect::StopAttempt { worker: lease.worker, attempt: lease.attempt })
            .into_iter()
            .collect();
        self.finish(State::Expired, effects)
    }

    /// The lease, if it is of this attempt. Everything but a success needs the current attempt.
    fn current(&mut self, attempt: Attempt) -> Result<&mut Lease, Refusal> {
        if let State::Leased(lease) = &mut self.job.state
            && lease.attempt == attempt
        {
            return Ok(lease);
        }
        Err(Refusal::NotCurrent(attempt))
    }

    fn advance(&mut self, items_done: u32) {
        self.job.items_done = self.job.items_done.max(items_done).min(self.job.items_total);
    }

    fn requeue(mut self) -> Result<Transition, Refusal> {
        self.job.state = State::Queued;
        self.done(vec![Effect::WakeDispatcher])
    }

    fn dead_letter(mut self, failure: Failure) -> Result<Transition, Refusal> {
        self.job.failure = Some(failure);
        self.finish(State::Failed, vec![])
    }

    fn finish(mut self, state: State, effects: Vec<Effect>) -> Result<Transition, Refusal> {
        self.job.state = state;
        self.job.finished_at = Some(self.now);
        self.done(effects)
    }

    #[expect(clippy::unnecessary_wraps, reason = "ends every successful step")]
    fn done(self, effects: Vec<Effect>) -> Result<Transition, Refusal> {
        Ok(Transition { job: self.job, effects })
    }

    fn not_due(self) -> Result<Transition, Refusal> {
        Err(Refusal::NotDue(self.job.state.kind()))
    }
}

fn failure(reason: FailureReason, error: &AttemptError) -> Failure {
    Failure { reason, code: error.code.clone(), message: error.message.clone() }
}
