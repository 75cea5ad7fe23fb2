//! What became of attempts, told from the change of their job.

use crate::ids::Attempt;

use super::event::{Event, FailureKind};
use super::record::AttemptOutcome;
use super::state::Job;

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnd {
    pub attempt: Attempt,
    pub outcome: AttemptOutcome,
    /// Stable code of the error; empty without one.
    pub code: String,
    /// For people; empty without an error.
    pub message: String,
}

/// The attempts that `event` ended when it turned `before` into `after`: the one that held the
/// lease, and an earlier one whose success won all the same.
#[must_use]
pub fn attempt_ends(before: &Job, after: &Job, event: &Event) -> Vec<AttemptEnd> {
    let winner = if let Event::Completed { attempt } = event { Some(*attempt) } else { None };
    let held = before.lease().map(|lease| lease.attempt);
    let kept = after.lease().map(|lease| lease.attempt);
    let ended = held.filter(|attempt| Some(*attempt) != kept && Some(*attempt) != winner);
    let won = |attempt| end(attempt, AttemptOutcome::Succeeded, ("", ""));
    winner
        .map(won)
        .into_iter()
        .chain(ended.map(|attempt| unwon(attempt, (before, after), event)))
        .collect()
}

/// The end of an attempt that did not succeed.
fn unwon(attempt: Attempt, (before, after): (&Job, &Job), event: &Event) -> AttemptEnd {
    match event {
        Event::AttemptFailed { error, .. } => {
            let outcome = match error.kind {
                FailureKind::Crash => AttemptOutcome::Crashed,
                FailureKind::Retryable | FailureKind::Permanent => AttemptOutcome::Failed,
            };
            end(attempt, outcome, (&error.code, &error.message))
        }
        Event::Released { .. } => end(attempt, AttemptOutcome::Released, ("", "")),
        Event::LeaseExpired { .. } => match &after.failure {
            // Else it is the failure of an earlier attempt.
            Some(failure) if after.spent.failures > before.spent.failures => {
                end(attempt, AttemptOutcome::Failed, (&failure.code, &failure.message))
            }
            _ => {
                let lost = ("WORKER_LOST", "no heartbeat arrived in time");
                end(attempt, AttemptOutcome::WorkerLost, lost)
            }
        },
        Event::Completed { .. }
        | Event::CancelRequested
        | Event::CancelGraceOver
        | Event::DeadlinePassed
        | Event::DispatchChosen
        | Event::RedispatchDue
        | Event::Claimed { .. }
        | Event::HeartbeatReceived { .. }
        | Event::WorkerDisconnected { .. }
        | Event::RetryDue => end(attempt, AttemptOutcome::Revoked, ("", "")),
    }
}

fn end(attempt: Attempt, outcome: AttemptOutcome, (code, message): (&str, &str)) -> AttemptEnd {
    AttemptEnd { attempt, outcome, code: code.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::{ClaimId, JobId, LeaseToken, WorkerId};
    use crate::job::{AttemptError, Failure, FailureReason, apply};
    use crate::policy::JobPolicy;
    use crate::time::Timestamp;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_millis(0).after(Duration::from_secs(seconds))
    }

    fn step(job: &Job, event: &Event, now: Timestamp) -> (Job, Vec<AttemptEnd>) {
        let after = apply(job, event, now, &JobPolicy::default()).expect("it applies").job;
        let ends = attempt_ends(job, &after, event);
        (after, ends)
    }

    fn leased(job: &Job, now: Timestamp) -> Job {
        let (job, none) = step(job, &Event::DispatchChosen, now);
        assert_eq!(none, []);
        let claimed = Event::Claimed {
            seq: job.dispatch_seq,
            claim: ClaimId::from_bytes([1; 16]),
            worker: WorkerId::from_bytes([2; 16]),
            token: LeaseToken::from_bytes([3; 16]),
        };
        step(&job, &claimed, now).0
    }

    fn new() -> Job {
        Job::accepted(JobId::from_bytes([9; 16]), 1, at(0), Timestamp::MAX)
    }

    fn outcomes(ends: &[AttemptEnd]) -> Vec<(u32, AttemptOutcome)> {
        ends.iter().map(|end| (end.attempt.number(), end.outcome)).collect()
    }

    #[test]
    fn each_way_to_end_has_its_outcome() {
        let job = leased(&new(), at(0));
        let attempt = Attempt::FIRST;
        let error = |kind| AttemptError { kind, code: "E".to_owned(), message: "m".to_owned() };
        let failed = |kind| Event::AttemptFailed { attempt, error: error(kind), jitter: 0.5 };
        for (event, now, outcome) in [
            (Event::Completed { attempt }, 1, AttemptOutcome::Succeeded),
            (failed(FailureKind::Crash), 1, AttemptOutcome::Crashed),
            (failed(FailureKind::Retryable), 1, AttemptOutcome::Failed),
            (failed(FailureKind::Permanent), 1, AttemptOutcome::Failed),
            (Event::LeaseExpired { jitter: 0.5 }, 30, AttemptOutcome::WorkerLost),
        ] {
            let ends = step(&job, &event, at(now)).1;
            assert_eq!(outcomes(&ends), [(1, outcome)], "{event:?}");
        }
        let beat = Event::HeartbeatReceived { attempt, items_done: 0 };
        assert_eq!(step(&job, &beat, at(1)).1, []);
        let running = step(&job, &Event::HeartbeatReceived { attempt, items_done: 0 }, at(3_590)).0;
        let ends = step(&running, &Event::LeaseExpired { jitter: 0.5 }, at(3_600)).1;
        assert_eq!(ends[0].outcome, AttemptOutcome::Failed);
        assert_eq!(ends[0].code, "RUNTIME_EXCEEDED");
    }

    #[test]
    fn a_lost_worker_is_not_told_with_the_failure_of_an_earlier_attempt() {
        let mut job = leased(&new(), at(0));
        let reason = FailureReason::RetriesExhausted;
        let (code, message) = ("RUNTIME_EXCEEDED".to_owned(), String::new());
        job.failure = Some(Failure { reason, code, message });
        let ends = step(&job, &Event::LeaseExpired { jitter: 0.5 }, at(30)).1;
        assert_eq!(
            (ends[0].outcome, ends[0].code.as_str()),
            (AttemptOutcome::WorkerLost, "WORKER_LOST")
        );
    }

    #[test]
    fn an_earlier_attempt_that_wins_ends_itself_and_the_running_one() {
        let job = step(&leased(&new(), at(0)), &Event::LeaseExpired { jitter: 0.5 }, at(30)).0;
        let late = Event::Completed { attempt: Attempt::FIRST };
        let ends = step(&leased(&job, at(31)), &late, at(32)).1;
        let expected = [(1, AttemptOutcome::Succeeded), (2, AttemptOutcome::Revoked)];
        assert_eq!(outcomes(&ends), expected);
        // Nobody runs it now: only the winner ends.
        assert_eq!(outcomes(&step(&job, &late, at(32)).1), [(1, AttemptOutcome::Succeeded)]);
    }
}
