//! What workers report of their attempts.

use stoker_core::ids::{Attempt, JobId};
use stoker_core::job::{
    Append, AttemptError, AttemptOutcome, CompletionPlan, Event, ReleaseReason, State, StateKind,
    answer_completion, answer_progress, answer_release,
};
use stoker_core::time::Timestamp;

use super::super::sabotage::Sabotage;
use super::super::types::{Answer, Fence, Heard, Part};
use super::{Cause, Store};

impl Store {
    pub(in super::super) fn heartbeat(
        &mut self,
        fence: &Fence,
        parts: &[Part],
        now: Timestamp,
    ) -> Heard {
        if self.find(fence).is_none() {
            return Heard::Fenced;
        }
        let attempt = self.meant(fence, Sabotage::StaleProgress);
        let Some(stored) = self.jobs.get(&fence.job) else { return Heard::Fenced };
        let Some(append) = answer_progress(&stored.job, attempt, parts.iter().map(|p| p.span()))
        else {
            return Heard::Fenced;
        };
        let items_done = self.store_parts(fence.job, parts, &append);
        let event = Event::HeartbeatReceived { attempt, items_done };
        if self.transit(fence.job, &event, now, Some(*fence)).is_err() {
            return Heard::Fenced;
        }
        let lease = self.jobs.get(&fence.job).and_then(|stored| stored.job.lease());
        if lease.is_some_and(|lease| lease.cancel_requested_at.is_some()) {
            Heard::Stop
        } else {
            Heard::Continue
        }
    }

    pub(in super::super) fn complete(
        &mut self,
        fence: &Fence,
        parts: &[Part],
        now: Timestamp,
    ) -> Answer {
        let Some(outcome) = self.find(fence) else { return Answer::NoUse };
        if self.is(Sabotage::CompletionOverwrites) || self.is(Sabotage::CancelWithoutRevoking) {
            self.overwrite(fence, parts, now);
        }
        let Some(stored) = self.jobs.get_mut(&fence.job) else { return Answer::NoUse };
        match answer_completion(&stored.job, outcome, parts.iter().map(|part| part.span())) {
            CompletionPlan::AlreadyRecorded => return Answer::Recorded,
            CompletionPlan::Terminal => return Answer::NoUse,
            CompletionPlan::Incomplete => return Answer::Incomplete,
            CompletionPlan::Record { replace_from } => {
                let across = |part: &Part| {
                    part.first_item < replace_from && part.span().end() > replace_from
                };
                if stored.parts.iter().any(across) {
                    return Answer::Incomplete;
                }
                stored.parts.retain(|part| part.first_item < replace_from);
                stored.parts.extend(parts);
            }
        }
        let event = Event::Completed { attempt: fence.attempt };
        match self.transit(fence.job, &event, now, Some(*fence)) {
            Ok(()) => Answer::Recorded,
            Err(_refusal) => Answer::NoUse,
        }
    }

    pub(in super::super) fn fail(
        &mut self,
        fence: &Fence,
        error: AttemptError,
        jitter: f64,
        now: Timestamp,
    ) -> Answer {
        if self.find(fence).is_none() {
            return Answer::NoUse;
        }
        let attempt = self.meant(fence, Sabotage::StaleFailure);
        let event = Event::AttemptFailed { attempt, error, jitter };
        let before = self.jobs.get(&fence.job).map(|stored| stored.job.spent);
        if self.transit(fence.job, &event, now, Some(*fence)).is_err() {
            return Answer::NoUse;
        }
        if let (Some(stored), Some(change)) =
            (self.jobs.get_mut(&fence.job), self.changes.last_mut())
        {
            if self.sabotage == Some(Sabotage::FailuresNotCounted) {
                stored.job.spent = before.unwrap_or_default();
            }
            if self.sabotage == Some(Sabotage::CrashedBatchTogether) {
                stored.job.run_alone = false;
            }
            if self.sabotage == Some(Sabotage::RetryAtOnce)
                && stored.job.state.kind() == StateKind::RetryWait
            {
                stored.job.state = State::RetryWait { until: now };
            }
            change.after = stored.job.clone();
        }
        Answer::Recorded
    }

    pub(in super::super) fn release(
        &mut self,
        fence: &Fence,
        reason: ReleaseReason,
        parts: &[Part],
        now: Timestamp,
    ) -> Answer {
        if self.find(fence).is_none() {
            return Answer::NoUse;
        }
        let attempt = self.meant(fence, Sabotage::StaleProgress);
        let Some(stored) = self.jobs.get(&fence.job) else { return Answer::NoUse };
        let Some(append) = answer_release(&stored.job, attempt, parts.iter().map(|p| p.span()))
        else {
            return Answer::NoUse;
        };
        let items_done = self.store_parts(fence.job, parts, &append);
        let event = Event::Released { attempt, reason, items_done };
        if self.transit(fence.job, &event, now, Some(*fence)).is_err() {
            return Answer::NoUse;
        }
        if self.is(Sabotage::ReleaseCountsAsFailure)
            && let Some(stored) = self.jobs.get_mut(&fence.job)
            && let Some(change) = self.changes.last_mut()
        {
            stored.job.spent.failures += 1;
            change.after = stored.job.clone();
        }
        Answer::Recorded
    }

    fn store_parts(&mut self, id: JobId, parts: &[Part], append: &Append) -> u32 {
        let lost = self.is(Sabotage::CheckpointLost);
        let Some(stored) = self.jobs.get_mut(&id) else { return 0 };
        if lost {
            return stored.job.items_done;
        }
        stored.parts.extend(append.parts.iter().filter_map(|index| parts.get(*index)));
        append.items_done
    }

    /// The attempt that a report is taken to be of.
    fn meant(&self, fence: &Fence, sabotage: Sabotage) -> Attempt {
        let lease = self.jobs.get(&fence.job).and_then(|stored| stored.job.lease());
        match lease {
            Some(lease) if self.is(sabotage) => lease.attempt,
            _ => fence.attempt,
        }
    }

    /// What stores that do not look at the state do.
    fn overwrite(&mut self, fence: &Fence, parts: &[Part], now: Timestamp) {
        let overwrites = self.is(Sabotage::CompletionOverwrites);
        let Some(stored) = self.jobs.get_mut(&fence.job) else { return };
        let whole = parts.first().is_some_and(|part| part.first_item == 0);
        match stored.job.state {
            State::Succeeded if overwrites && whole => stored.parts = parts.to_vec(),
            State::Cancelled if !overwrites => {
                let first = parts.first().map_or(stored.job.items_total, |part| part.first_item);
                stored.parts.retain(|part| part.first_item < first);
                stored.parts.extend(parts);
                let before = stored.job.clone();
                let event = Event::Completed { attempt: fence.attempt };
                if let Some(issued) = stored.attempts.get_mut(&fence.attempt) {
                    issued.outcome = AttemptOutcome::Succeeded;
                }
                self.note(fence.job, Some(before), Cause::Report(*fence, event), (vec![], now));
            }
            State::Queued
            | State::Dispatched { .. }
            | State::Leased(_)
            | State::RetryWait { .. }
            | State::Succeeded
            | State::Failed
            | State::Cancelled
            | State::Expired => {}
        }
    }
}
