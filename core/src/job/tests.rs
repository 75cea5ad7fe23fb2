//! Stories of single jobs, and properties over random lives.

use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::ids::{Attempt, ClaimId, DispatchSeq, JobId, LeaseToken, WorkerId};
use crate::policy::JobPolicy;
use crate::time::Timestamp;

const START: Timestamp = Timestamp::from_unix_millis(1_000_000);

fn at(seconds: u64) -> Timestamp {
    START.after(Duration::from_secs(seconds))
}

fn id<T>(make: fn(Uuid) -> T, number: u128) -> T {
    make(Uuid::from_u128(number))
}

fn new_job() -> Job {
    Job::accepted(id(JobId::from_uuid, 1), 100, START, Timestamp::MAX)
}

#[expect(clippy::needless_pass_by_value, reason = "events are made where they are applied")]
fn step(job: &Job, event: Event, now: Timestamp) -> Job {
    apply(job, &event, now, &JobPolicy::default()).expect("the event has a place").job
}

fn claimed(job: &Job, number: u128, now: Timestamp) -> Job {
    let dispatched = step(job, Event::DispatchChosen, now);
    step(&dispatched, claim_of(&dispatched, number), now)
}

fn claim_of(job: &Job, number: u128) -> Event {
    Event::Claimed {
        seq: job.dispatch_seq,
        claim: id(ClaimId::from_uuid, number),
        worker: id(WorkerId::from_uuid, number),
        token: id(LeaseToken::from_uuid, number),
    }
}

fn error(kind: FailureKind) -> AttemptError {
    AttemptError { kind, code: "E".to_owned(), message: "broke".to_owned() }
}

fn failed(attempt: Attempt, kind: FailureKind) -> Event {
    Event::AttemptFailed { attempt, error: error(kind), jitter: 0.5 }
}

#[test]
fn the_happy_path_ends_in_one_result() {
    let running = claimed(&new_job(), 7, at(3));
    assert_eq!(running.started_at, Some(at(3)));
    let done = step(&running, Event::Completed { attempt: Attempt::FIRST }, at(4));
    assert_eq!(done.state, State::Succeeded);
    assert_eq!(done.items_done, 100);
}

#[test]
fn a_lost_worker_costs_no_failure_and_no_crash() {
    let running = claimed(&new_job(), 7, at(0));
    let job = step(&running, Event::LeaseExpired { jitter: 0.0 }, at(30));
    assert_eq!(job.state, State::Queued);
    assert_eq!(job.spent, Budgets { lost_workers: 1, ..Budgets::default() });
}

#[test]
fn a_zombie_cannot_fail_a_job_that_was_given_to_another() {
    let first = claimed(&new_job(), 7, at(0));
    let second = claimed(&step(&first, Event::LeaseExpired { jitter: 0.0 }, at(30)), 8, at(31));
    let stale = failed(Attempt::FIRST, FailureKind::Permanent);
    assert_eq!(
        apply(&second, &stale, at(32), &JobPolicy::default()),
        Err(Refusal::NotCurrent(Attempt::FIRST))
    );
}

#[test]
fn a_zombies_success_wins_and_stops_the_other() {
    let first = claimed(&new_job(), 7, at(0));
    let second = claimed(&step(&first, Event::LeaseExpired { jitter: 0.0 }, at(30)), 8, at(31));
    let event = Event::Completed { attempt: Attempt::FIRST };
    let won = apply(&second, &event, at(32), &JobPolicy::default()).unwrap();
    assert_eq!(won.job.state, State::Succeeded);
    let worker = id(WorkerId::from_uuid, 8);
    let attempt = Attempt::FIRST.next();
    assert_eq!(won.effects, vec![Effect::StopAttempt { worker, attempt }]);
}

#[test]
fn an_attempt_that_was_never_begun_cannot_complete() {
    let job = step(&new_job(), Event::DispatchChosen, at(0));
    let event = Event::Completed { attempt: Attempt::FIRST };
    assert!(apply(&job, &event, at(1), &JobPolicy::default()).is_err());
}

#[test]
fn the_same_claim_gets_the_same_grant_and_another_is_busy() {
    let job = claimed(&new_job(), 7, at(0));
    let seq = job.dispatch_seq;
    assert_eq!(answer_claim(&job, seq, id(ClaimId::from_uuid, 7)), ClaimAnswer::GrantedBefore);
    assert_eq!(
        answer_claim(&job, seq, id(ClaimId::from_uuid, 8)),
        ClaimAnswer::Refuse(ClaimRefusal::Busy)
    );
}

#[test]
fn an_old_message_is_stale() {
    let job = claimed(&new_job(), 7, at(0));
    let job = step(&job, Event::LeaseExpired { jitter: 0.0 }, at(30));
    let job = step(&job, Event::DispatchChosen, at(30));
    let answer = answer_claim(&job, DispatchSeq::new(1), id(ClaimId::from_uuid, 9));
    assert_eq!(answer, ClaimAnswer::Refuse(ClaimRefusal::Stale));
}

#[test]
fn a_crashing_job_runs_alone_and_ends_as_poison() {
    let mut job = new_job();
    for number in 1..=3_u32 {
        let running = claimed(&job, number.into(), at(number.into()));
        let attempt = Attempt::new(number).unwrap();
        job = step(&running, failed(attempt, FailureKind::Crash), at(number.into()));
        assert!(job.run_alone);
    }
    assert_eq!(job.state, State::Failed);
    assert_eq!(job.failure.unwrap().reason, FailureReason::Poison);
}

#[test]
fn cancel_revokes_a_running_attempt_after_the_grace() {
    let job = step(&claimed(&new_job(), 7, at(0)), Event::CancelRequested, at(1));
    assert_eq!(job.state.kind(), StateKind::Leased);
    assert!(apply(&job, &Event::CancelGraceOver, at(2), &JobPolicy::default()).is_err());
    let job = step(&job, Event::CancelGraceOver, at(11));
    assert_eq!(job.state, State::Cancelled);
    let late = Event::Completed { attempt: Attempt::FIRST };
    assert_eq!(
        apply(&job, &late, at(12), &JobPolicy::default()),
        Err(Refusal::Terminal(StateKind::Cancelled))
    );
}

#[test]
fn an_attempt_that_outlives_its_runtime_counts_as_a_failure_of_the_job() {
    let job = claimed(&new_job(), 7, at(0));
    let job =
        step(&job, Event::HeartbeatReceived { attempt: Attempt::FIRST, items_done: 1 }, at(3599));
    let job = step(&job, Event::LeaseExpired { jitter: 0.5 }, at(3600));
    assert_eq!(job.spent.failures, 1);
    assert_eq!(job.failure.unwrap().code, "RUNTIME_EXCEEDED");
}

#[test]
fn a_broken_stream_shortens_the_lease_to_the_grace() {
    let job = claimed(&new_job(), 7, at(0));
    let worker = id(WorkerId::from_uuid, 7);
    let job = step(&job, Event::WorkerDisconnected { worker }, at(10));
    assert_eq!(job.lease().unwrap().expires_at, at(12));
    let back = Event::HeartbeatReceived { attempt: Attempt::FIRST, items_done: 0 };
    assert_eq!(step(&job, back, at(11)).lease().unwrap().expires_at, at(41));
}

#[test]
fn amnesty_gives_a_full_life_even_past_the_longest_runtime_and_takes_back_a_wrong_clocks_gift() {
    let policy = JobPolicy::default().lease;
    for (expires_at, must_end_by) in [(at(30), at(3600)), (at(90_000), at(93_600))] {
        let mut job = claimed(&new_job(), 7, at(0));
        let State::Leased(lease) = &mut job.state else { panic!("{job:?}") };
        (lease.expires_at, lease.must_end_by) = (expires_at, must_end_by);
        lease.grant_amnesty(at(7200), &policy);
        assert_eq!(lease.expires_at, at(7230));
        assert!(lease.must_end_by >= lease.expires_at);
    }
}

/// Found by simulation: the coordinator was away past an attempt's longest runtime, and came back to
/// hold the end of a worker that had vanished meanwhile against the job.
#[test]
fn a_worker_that_vanished_while_nobody_listened_is_not_an_attempt_that_ran_too_long() {
    let policy = JobPolicy::default();
    let mut job = claimed(&new_job(), 7, at(0));
    let State::Leased(lease) = &mut job.state else { panic!("{job:?}") };
    lease.grant_amnesty(at(7_200), &policy.lease);
    let silent = step(&job, Event::LeaseExpired { jitter: 0.5 }, at(7_230));
    assert_eq!(silent.spent, Budgets { lost_workers: 1, ..Budgets::default() });
    // One that is heard again has still run for too long in the end.
    let beat = || Event::HeartbeatReceived { attempt: Attempt::FIRST, items_done: 0 };
    let heard = step(&step(&job, beat(), at(7_229)), beat(), at(7_255));
    let overdue = step(&heard, Event::LeaseExpired { jitter: 0.5 }, at(7_260));
    assert_eq!(overdue.spent, Budgets { failures: 1, ..Budgets::default() });
}

fn any_event() -> impl Strategy<Value = Event> {
    let attempt = (1_u32..6).prop_map(|n| Attempt::new(n).unwrap());
    let kind = prop_oneof![
        Just(FailureKind::Retryable),
        Just(FailureKind::Permanent),
        Just(FailureKind::Crash)
    ];
    let reason = prop_oneof![
        Just(ReleaseReason::Draining),
        Just(ReleaseReason::Interrupted),
        Just(ReleaseReason::Stopped)
    ];
    prop_oneof![
        4 => Just(Event::DispatchChosen),
        1 => Just(Event::RedispatchDue),
        4 => (1_u32..6, 1_u128..6).prop_map(|(seq, n)| Event::Claimed {
            seq: DispatchSeq::new(seq),
            claim: id(ClaimId::from_uuid, n),
            worker: id(WorkerId::from_uuid, n),
            token: id(LeaseToken::from_uuid, n),
        }),
        2 => (attempt.clone(), 0_u32..200)
            .prop_map(|(attempt, items_done)| Event::HeartbeatReceived { attempt, items_done }),
        1 => (1_u128..6)
            .prop_map(|n| Event::WorkerDisconnected { worker: id(WorkerId::from_uuid, n) }),
        1 => attempt.clone().prop_map(|attempt| Event::Completed { attempt }),
        2 => (attempt.clone(), kind).prop_map(|(attempt, kind)| failed(attempt, kind)),
        2 => (attempt, reason, 0_u32..200).prop_map(|(attempt, reason, items_done)| {
            Event::Released { attempt, reason, items_done }
        }),
        2 => Just(Event::LeaseExpired { jitter: 0.5 }),
        2 => Just(Event::RetryDue),
        1 => Just(Event::CancelRequested),
        1 => Just(Event::CancelGraceOver),
        1 => Just(Event::DeadlinePassed),
    ]
}

/// What must hold of every single step.
fn check_step(before: &Job, event: &Event, after: &Job) -> Result<(), TestCaseError> {
    prop_assert!(!before.state.is_terminal(), "a terminal job changed");
    prop_assert!(after.last_attempt >= before.last_attempt);
    prop_assert!(after.dispatch_seq >= before.dispatch_seq);
    prop_assert!(after.items_done >= before.items_done && after.items_done <= after.items_total);
    prop_assert!(after.started_at == before.started_at || before.started_at.is_none());
    prop_assert_eq!(after.state.is_terminal(), after.finished_at.is_some());
    prop_assert!(after.state != State::Failed || after.failure.is_some());
    let policy = JobPolicy::default().retry;
    if after.state != State::Failed {
        prop_assert!(after.spent.failures < policy.max_failures);
        prop_assert!(after.spent.crashes < policy.max_crashes);
        prop_assert!(after.spent.lost_workers < policy.max_lost_workers);
    }
    if after.state == State::Succeeded {
        let completed = matches!(event, Event::Completed { .. });
        prop_assert!(completed, "succeeded by {:?}", event);
    }
    if let Some(lease) = after.lease() {
        prop_assert_eq!(Some(lease.attempt), after.last_attempt);
        prop_assert!(lease.expires_at <= lease.must_end_by);
        prop_assert!(lease.must_end_by <= after.deadline_at);
    }
    Ok(())
}

/// A stale attempt's failure, progress or release must leave the job as it was.
fn stale(before: &Job, event: &Event) -> bool {
    let attempt = match event {
        Event::HeartbeatReceived { attempt, .. }
        | Event::AttemptFailed { attempt, .. }
        | Event::Released { attempt, .. } => *attempt,
        Event::DispatchChosen
        | Event::RedispatchDue
        | Event::Claimed { .. }
        | Event::WorkerDisconnected { .. }
        | Event::Completed { .. }
        | Event::LeaseExpired { .. }
        | Event::RetryDue
        | Event::CancelRequested
        | Event::CancelGraceOver
        | Event::DeadlinePassed => return false,
    };
    before.lease().is_none_or(|lease| lease.attempt != attempt)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_life_keeps_the_invariants(
        events in prop::collection::vec((any_event(), 0_u64..40), 1..80),
        deadline in prop::option::of(50_u64..2000),
    ) {
        let policy = JobPolicy::default();
        let deadline = deadline.map_or(Timestamp::MAX, at);
        let mut job = Job::accepted(id(JobId::from_uuid, 1), 100, START, deadline);
        let mut seconds = 0;
        for (event, pause) in events {
            seconds += pause;
            match apply(&job, &event, at(seconds), &policy) {
                Ok(transition) => {
                    prop_assert!(!stale(&job, &event), "a stale attempt had an effect: {event:?}");
                    check_step(&job, &event, &transition.job)?;
                    job = transition.job;
                }
                Err(Refusal::Terminal(kind)) => prop_assert!(kind.is_terminal()),
                Err(_) => {}
            }
        }
    }
}

/// Whatever happened before, a job that is then left to healthy machinery ends.
#[test]
fn every_state_has_somebody_who_moves_it_on() {
    let queued = new_job();
    let dispatched = step(&queued, Event::DispatchChosen, at(0));
    let leased = step(&dispatched, claim_of(&dispatched, 1), at(0));
    let waiting = step(&leased, failed(Attempt::FIRST, FailureKind::Retryable), at(0));
    assert!(apply(&queued, &Event::DispatchChosen, at(1), &JobPolicy::default()).is_ok());
    assert!(apply(&dispatched, &Event::RedispatchDue, at(60), &JobPolicy::default()).is_ok());
    let expired = Event::LeaseExpired { jitter: 0.0 };
    assert!(apply(&leased, &expired, at(30), &JobPolicy::default()).is_ok());
    assert!(apply(&waiting, &Event::RetryDue, at(301), &JobPolicy::default()).is_ok());
}

proptest! {
    /// Whatever the sweeper finds due is accepted, so it can never spin on a job.
    #[test]
    fn a_due_event_always_applies(
        events in prop::collection::vec((any_event(), 0_u64..40), 0..40),
        deadline in prop::option::of(50_u64..2000),
    ) {
        let policy = JobPolicy::default();
        let mut job = Job::accepted(
            id(JobId::from_uuid, 1), 100, START, deadline.map_or(Timestamp::MAX, at),
        );
        let mut seconds = 0;
        for (event, pause) in events {
            seconds += pause;
            if let Ok(transition) = apply(&job, &event, at(seconds), &policy) {
                job = transition.job;
            }
            if let Some(due) = due_event(&job, at(seconds), &policy.lease, 0.5) {
                let applied = apply(&job, &due, at(seconds), &policy);
                prop_assert!(applied.is_ok(), "{:?} on {:?}", due, job);
            }
        }
    }
}
