use stoker_core::fleet::ledger::Mode;

use super::*;
use crate::render::time::to_wire;

const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

/// A time so many seconds from now.
#[expect(clippy::unnecessary_wraps, reason = "the wire's fields are optional")]
fn at(seconds: i64) -> Option<stoker_proto::well_known::Timestamp> {
    Some(to_wire(Timestamp::from_unix_millis(NOW.as_unix_millis() + seconds * 1_000)))
}

/// A job that was accepted 50 s ago and waits, with 10 s of its promise left.
fn answer(state: v1::JobState) -> v1::ExplainJobResponse {
    let job = v1::Job {
        id: "j1".into(),
        tenant: "mine".into(),
        class: "standard".into(),
        pool: "gpu".into(),
        model: "mini".into(),
        state: state.into(),
        items_total: 100,
        accepted_at: at(-50),
        ..v1::Job::default()
    };
    v1::ExplainJobResponse {
        job: Some(job),
        observed_at: at(0),
        start_by: at(10),
        max_failures: 3,
        max_crashes: 3,
        max_lost_workers: 10,
        queue: Some(v1::JobQueue { slots: 4, window: 8, in_flight: 8, ..v1::JobQueue::default() }),
        ..v1::ExplainJobResponse::default()
    }
}

fn worker(id: &str, state: v1::WorkerState) -> v1::Worker {
    v1::Worker {
        id: id.into(),
        pool: "gpu".into(),
        models: vec!["mini".into()],
        state: state.into(),
        last_seen_at: at(-12),
        ..v1::Worker::default()
    }
}

fn judge(
    answer: &v1::ExplainJobResponse,
    workers: &[v1::Worker],
    buying: Option<&Buying>,
) -> Verdict {
    let job = answer.job.as_ref().unwrap();
    verdict(&Facts { answer, job, now: NOW, workers, buying })
}

/// A waiting job whose queue is changed.
fn waiting(change: impl FnOnce(&mut v1::JobQueue)) -> v1::ExplainJobResponse {
    let mut answer = answer(v1::JobState::Queued);
    change(answer.queue.as_mut().unwrap());
    answer
}

/// An ended or running job that is changed.
fn job(state: v1::JobState, change: impl FnOnce(&mut v1::Job)) -> v1::ExplainJobResponse {
    let mut answer = v1::ExplainJobResponse { queue: None, ..answer(state) };
    change(answer.job.as_mut().unwrap());
    answer
}

#[track_caller]
fn says(verdict: &Verdict, cause: &str, parts: &[&str]) {
    assert_eq!(verdict.cause, cause, "{verdict:?}");
    for part in parts {
        let advice = verdict.advice.as_deref().unwrap_or_default();
        assert!(verdict.text.contains(part) || advice.contains(part), "`{part}`: {verdict:?}");
    }
}

#[test]
fn a_model_that_left_the_file_comes_before_everything() {
    let answer = waiting(|queue| {
        (queue.unserved, queue.slots, queue.broker_problem) = (true, 0, "away".into());
    });
    says(&judge(&answer, &[], None), "model_gone", &["no model `mini`", "stoker cancel j1"]);
}

#[test]
fn a_broker_that_is_away_is_named() {
    let answer = waiting(|queue| queue.broker_problem = "connection refused".into());
    says(&judge(&answer, &[], None), "broker", &["connection refused", "goes on by itself"]);
}

#[test]
fn a_queue_without_workers_says_what_became_of_them() {
    let empty = waiting(|queue| queue.slots = 0);
    says(&judge(&empty, &[], None), "no_worker", &["No ready worker serves", "Start a worker"]);
    let gone = [worker("w1", v1::WorkerState::Lost), worker("w2", v1::WorkerState::Draining)];
    says(&judge(&empty, &gone, None), "no_worker", &["1 worker draining, 1 lost"]);
    let cordoned = [worker("w1", v1::WorkerState::Cordoned)];
    let verdict = judge(&empty, &cordoned, None);
    says(&verdict, "workers_cordoned", &["1 worker cordoned", "stoker workers cordon w1 --undo"]);
    let other =
        v1::Worker { models: vec!["echo".into()], ..worker("w3", v1::WorkerState::Cordoned) };
    assert_eq!(judge(&empty, &[other], None).cause, "no_worker", "it serves another model");
    let starting = waiting(|queue| (queue.slots, queue.workers_starting) = (0, 2));
    says(&judge(&starting, &[], None), "workers_starting", &["2 workers of the model `mini`"]);
}

#[test]
fn what_is_bought_explains_a_pool_without_workers() {
    let empty = waiting(|queue| queue.slots = 0);
    let mut buying = Buying::default();
    assert_eq!(judge(&empty, &[], Some(&buying)).cause, "no_worker");
    buying.refused = Some("capacity: none left".into());
    says(&judge(&empty, &[], Some(&buying)), "machine_refused", &["capacity: none left"]);
    buying.switch =
        Switch { mode: Mode::Freeze, by: "ann".into(), why: "drill".into(), ..Switch::default() };
    let verdict = judge(&empty, &[], Some(&buying));
    says(&verdict, "switched_off", &["ann set the fleet's switch to `freeze`: drill", "fleet run"]);
    (buying.on_their_way, buying.oldest) = (2, Duration::from_secs(95));
    let verdict = judge(&empty, &[], Some(&buying));
    says(&verdict, "machines_booting", &["2 machines on the way, for 1m35s"]);
}

#[test]
fn a_job_in_line_knows_who_goes_first() {
    let verdict = judge(&answer(v1::JobState::Queued), &[], None);
    says(&verdict, "next", &["the next to be released", "promises a start within another 10s"]);
    let ahead = |tenant: &str, jobs| v1::JobsAhead { tenant: tenant.into(), jobs };
    let line = waiting(|queue| queue.ahead = vec![ahead("mine", 2), ahead("other", 1_200)]);
    let verdict = judge(&line, &[], None);
    says(&verdict, "in_line", &["1,202 jobs go first, 2 of its own tenant and 1,200 of others"]);
    let line = waiting(|queue| {
        (queue.ahead, queue.ahead_at_least) = (vec![ahead("other", 1)], true);
    });
    let verdict = judge(&line, &[], None);
    says(&verdict, "in_line", &["at least 1 job goes first, all of other tenants"]);
}

#[test]
fn a_released_job_waits_for_a_slot_or_is_on_its_way() {
    let mut released = answer(v1::JobState::Dispatched);
    says(&judge(&released, &[], None), "no_free_slot", &["7 other jobs", "4 slots"]);
    released.queue.as_mut().unwrap().in_flight = 2;
    says(&judge(&released, &[], None), "on_its_way", &["has a free slot"]);
}

#[test]
fn a_broken_promise_and_a_deadline_are_told() {
    let mut late = answer(v1::JobState::Queued);
    late.start_by = at(-20);
    late.job.as_mut().unwrap().deadline_at = at(90);
    let verdict = judge(&late, &[], None);
    says(&verdict, "next", &["promised a start 20s ago", "It expires in 1m30s."]);
    let started = job(v1::JobState::Queued, |job| job.started_at = at(-30));
    let verdict = judge(&started, &[], None);
    assert!(!verdict.text.contains("promise"), "it has started once: {verdict:?}");
}

#[test]
fn a_retry_says_when_and_how_many_are_left() {
    let waits = job(v1::JobState::RetryWait, |job| {
        (job.retry_at, job.failures) = (at(4), 2);
        job.failure =
            Some(v1::Failure { code: "OOM".into(), message: "too large".into(), reason: 0 });
    });
    let verdict = judge(&waits, &[], None);
    says(&verdict, "retry", &["OOM: too large", "begins in 4s", "2 failures of at most 3"]);
    let due = job(v1::JobState::RetryWait, |job| job.retry_at = at(-1));
    says(&judge(&due, &[], None), "retry", &["is due now"]);
}

#[test]
fn a_running_job_says_where_and_whether_its_worker_lives() {
    let mut runs = job(v1::JobState::Leased, |job| {
        (job.worker_id, job.attempts, job.items_done) = ("w1".into(), 2, 30);
    });
    runs.attempts =
        vec![v1::AttemptRecord { attempt: 2, started_at: at(-65), ..Default::default() }];
    runs.next_due = at(18);
    let with = |state| judge(&runs, &[worker("w1", state)], None);
    let text = ["running for 1m05s on the worker w1, in attempt 2", "30 of 100 items"];
    says(&with(v1::WorkerState::Ready), "running", &text);
    let lost = ["not been heard of for 12s", "nothing is heard within 18s"];
    says(&with(v1::WorkerState::Lost), "worker_lost", &lost);
    says(&judge(&runs, &[], None), "worker_lost", &["not known here"]);
    let going = v1::Worker {
        notice: v1::CloudNoticeKind::Interruption.into(),
        ..worker("w1", v1::WorkerState::Draining)
    };
    says(&judge(&runs, &[going], None), "running_on_draining_worker", &["draining (interruption)"]);
    runs.job.as_mut().unwrap().cancel_requested = true;
    says(&judge(&runs, &[], None), "stopping", &["asked to stop"]);
}

#[test]
fn a_success_says_whether_the_promise_was_kept() {
    let ended = |started: i64, troubles: u32| {
        job(v1::JobState::Succeeded, |job| {
            (job.started_at, job.finished_at) = (at(started), at(started + 5));
            (job.interruptions, job.crashes) = (troubles, troubles);
        })
    };
    let verdict = judge(&ended(-20, 0), &[], None);
    assert_eq!(verdict.text, "It succeeded 5s after its first start. It waited 30s, in time.");
    let verdict = judge(&ended(40, 2), &[], None);
    says(&verdict, "succeeded", &["after 2 engine crashes and 2 interruptions"]);
    says(&verdict, "succeeded", &["It waited 1m30s, 30s later than promised."]);
}

#[test]
fn each_way_to_fail_is_told_apart() {
    let failed = |reason: v1::FailureReason| {
        job(v1::JobState::Failed, |job| {
            let (code, message) = ("CRASH".to_owned(), "the engine died".to_owned());
            (job.crashes, job.failures) = (3, 1);
            job.failure = Some(v1::Failure { reason: reason.into(), code, message });
        })
    };
    let verdict = |reason| judge(&failed(reason), &[], None);
    let permanent = verdict(v1::FailureReason::Permanent);
    says(&permanent, "failed_permanent", &["CRASH: the engine died", "stoker retry j1"]);
    let exhausted = verdict(v1::FailureReason::RetriesExhausted);
    says(&exhausted, "failed_retries", &["as often as it may (3 times)"]);
    let poison = verdict(v1::FailureReason::Poison);
    says(
        &poison,
        "failed_poison",
        &["poison after 1 failure and 3 engine crashes", "at most 3 crashes"],
    );
    let mut again = failed(v1::FailureReason::Permanent);
    again.job.as_mut().unwrap().retried_as = "j2".into();
    let verdict = judge(&again, &[], None);
    says(&verdict, "failed_permanent", &["started again as j2"]);
    assert_eq!(verdict.advice, None);
}

#[test]
fn what_was_stopped_says_how_far_it_was() {
    let early = |state| job(state, |_| {});
    let late = |state| {
        job(state, |job| {
            (job.started_at, job.attempts, job.items_done, job.lost_workers) = (at(-20), 2, 40, 1);
        })
    };
    let verdict = |answer| judge(&answer, &[], None);
    says(&verdict(early(v1::JobState::Cancelled)), "cancelled", &["before it ever started"]);
    says(&verdict(late(v1::JobState::Cancelled)), "cancelled", &["in attempt 2, with 40 of 100"]);
    let expired = verdict(early(v1::JobState::Expired));
    says(&expired, "expired_waiting", &["before it ever started", "stoker retry j1"]);
    let expired = verdict(late(v1::JobState::Expired));
    says(&expired, "expired_running", &["in attempt 2 after 1 lost worker, with 40 of 100"]);
}

#[test]
fn a_newer_coordinators_state_is_not_guessed() {
    let mut newer = answer(v1::JobState::Queued);
    newer.job.as_mut().unwrap().state = 99;
    says(&judge(&newer, &[], None), "unknown", &["stoker version"]);
}
