use std::time::Duration;

use super::*;
use crate::chaos::stamp;

fn job(state: JobState) -> Job {
    Job { id: "j".to_owned(), attempts: 1, state: state.into(), ..Job::default() }
}

fn expected() -> Expected {
    Expected::of(vec!["a".to_owned(), "b".to_owned()])
}

fn result(run: u64) -> Vec<String> {
    ["a", "b"].into_iter().map(|text| stamp(text, 1, run)).collect()
}

fn found(judge: impl FnOnce(&mut Findings)) -> Vec<&'static str> {
    let mut findings = Findings::default();
    judge(&mut findings);
    findings.0.into_keys().collect()
}

fn of_job(job: &Job, expected: &Expected, stored: Option<&[String]>) -> Vec<&'static str> {
    found(|findings| one_job(job, expected, stored, None, findings))
}

#[test]
fn a_good_end_is_no_finding() {
    assert!(of_job(&job(JobState::Succeeded), &expected(), Some(&result(1))).is_empty());
    let cancelled = Expected { cancel: Cancel::Answered, ..expected() };
    assert!(of_job(&job(JobState::Cancelled), &cancelled, None).is_empty());
    let timed = Expected { deadline: true, ..expected() };
    assert!(of_job(&job(JobState::Expired), &timed, None).is_empty());
    let failure = Failure { reason: FailureReason::Poison.into(), ..Failure::default() };
    let dead = Job { failure: Some(failure), crashes: 3, attempts: 3, ..job(JobState::Failed) };
    assert!(of_job(&dead, &Expected { nature: Nature::Poison, ..expected() }, None).is_empty());
}

#[test]
fn each_bad_end_is_found() {
    let one = result(1);
    let stored = Some(&one[..]);
    assert_eq!(of_job(&job(JobState::Leased), &expected(), None), ["I1", "I5"]);
    assert_eq!(of_job(&job(JobState::Cancelled), &expected(), None), ["I5"]);
    assert_eq!(of_job(&job(JobState::Expired), &expected(), None), ["I5"]);
    assert_eq!(of_job(&job(JobState::Failed), &expected(), None), ["I5"]);
    let answered = Expected { cancel: Cancel::Answered, ..expected() };
    assert_eq!(of_job(&job(JobState::Succeeded), &answered, stored), ["I5"]);
    let asked = Expected { cancel: Cancel::Asked, ..expected() };
    assert_eq!(of_job(&job(JobState::Cancelled), &asked, stored), ["I10"]);
    assert_eq!(of_job(&job(JobState::Succeeded), &expected(), Some(&one[..1])), ["I4"]);
    assert_eq!(of_job(&job(JobState::Succeeded), &expected(), None), ["I4"]);
    let again = Job { attempts: 2, ..job(JobState::Succeeded) };
    assert_eq!(of_job(&again, &expected(), stored), ["I6"]);
    let failed = Job { failures: 1, ..job(JobState::Succeeded) };
    assert_eq!(of_job(&failed, &expected(), stored), ["I7"]);
    let poison = Expected { nature: Nature::Poison, ..expected() };
    let dead = Job { crashes: 4, attempts: 4, ..job(JobState::Failed) };
    assert_eq!(of_job(&dead, &poison, None), ["I13"]);
}

#[test]
fn an_end_that_changes_is_found() {
    let told = job(JobState::Cancelled);
    let end = |now: &Job| found(|findings| same_end(&told, now, findings));
    assert!(end(&told).is_empty());
    assert_eq!(end(&job(JobState::Succeeded)), ["I5"]);
    assert_eq!(end(&Job { attempts: 2, ..told.clone() }), ["I5"]);
    let history = History { ended: [("j".to_owned(), told.clone())].into(), ..History::default() };
    let jobs = BTreeMap::from([("j".to_owned(), job(JobState::Succeeded))]);
    assert!(found(|findings| clients_saw(&history, &jobs, findings)).contains(&"I5"));
}

#[test]
fn a_stream_that_goes_back_is_found() {
    let at = |dispatches, attempts| Job { dispatches, attempts, ..job(JobState::Queued) };
    let went = |before: Job, after: Job| found(|findings| went_on(&before, &after, findings));
    assert!(went(at(1, 1), at(1, 1)).is_empty());
    assert!(went(at(1, 1), at(2, 1)).is_empty());
    assert_eq!(went(at(2, 1), at(1, 1)), ["I6"]);
    assert_eq!(went(at(2, 2), at(2, 1)), ["I6"]);
}

fn fails_once() -> Expected {
    Expected { nature: Nature::FailsOnce, ..Expected::of(vec!["f".to_owned()]) }
}

fn refused() -> Job {
    let failure = Failure { reason: FailureReason::Permanent.into(), ..Failure::default() };
    Job { failure: Some(failure), failures: 1, ..job(JobState::Failed) }
}

#[test]
fn a_refusal_ends_its_job_for_the_right_reason() {
    assert!(of_job(&refused(), &fails_once(), None).is_empty());
    let poison = Failure { reason: FailureReason::Poison.into(), ..Failure::default() };
    let other = Job { failure: Some(poison), ..refused() };
    assert_eq!(of_job(&other, &fails_once(), None), ["I5"]);
    assert_eq!(of_job(&refused(), &expected(), None), ["I5", "I7"]);
    let again = [stamp("f", 1, 1)];
    let forgiven = Job { failures: 1, ..job(JobState::Succeeded) };
    assert_eq!(of_job(&forgiven, &fails_once(), Some(&again)), ["I7"]);
}

#[test]
fn a_failure_of_an_attempt_that_was_over_is_found() {
    let judge = |log: &str, job: &Job| {
        found(|findings| Executions::read(log).of_job(job, &fails_once(), findings))
    };
    let lost = |job: Job| Job { lost_workers: 1, attempts: 2, ..job };
    let twice = "begun f\nbegun f\nended f\n";
    assert!(judge(twice, &lost(job(JobState::Succeeded))).is_empty());
    // Nobody's second run, and yet a result.
    assert_eq!(judge("begun f\n", &job(JobState::Succeeded)), ["I4"]);
    let in_time = |job: &Job, failed: &[u64]| {
        let failures = Failures::from([("j".to_owned(), failed.iter().copied().collect())]);
        found(|findings| failed_in_time(job, &failures, findings))
    };
    assert!(in_time(&refused(), &[1]).is_empty());
    assert!(in_time(&lost(refused()), &[2]).is_empty());
    assert!(in_time(&lost(refused()), &[1, 2]).is_empty());
    assert!(in_time(&lost(job(JobState::Succeeded)), &[1]).is_empty());
    // The first of two attempts, and one that was lost and had no successor yet.
    assert_eq!(in_time(&lost(refused()), &[1]), ["I7"]);
    assert_eq!(in_time(&Job { lost_workers: 1, ..refused() }, &[1]), ["I7"]);
    assert_eq!(in_time(&refused(), &[]), ["I7"]);
}

#[test]
fn a_second_result_is_found_though_it_says_the_same() {
    let (first, second) = (result(1), result(2));
    let (read, stored) = (Some(&first[..]), Some(&second[..]));
    let done = job(JobState::Succeeded);
    assert_eq!(found(|f| one_job(&done, &expected(), stored, read, f)), ["I3"]);
    assert_eq!(found(|f| one_job(&job(JobState::Failed), &expected(), None, read, f)), ["I5"]);
}

#[test]
fn what_clients_saw_is_held_against_the_jobs() {
    let mut history = History::default();
    history.accepted.insert("kept".to_owned(), expected());
    history.accepted.insert("lost".to_owned(), expected());
    history.verified.insert("forgotten".to_owned());
    let of = |ids: &[&str]| ids.iter().map(|id| ((*id).to_owned(), Job::default())).collect();
    let judge = |history: &History, ids: &[&str]| {
        found(|findings| clients_saw(history, &of(ids), findings))
    };
    assert_eq!(judge(&history, &["kept", "forgotten"]), ["I1"]);
    assert!(judge(&history, &["kept", "lost"]).is_empty());
    assert_eq!(judge(&history, &["kept", "lost", "stranger"]), ["I2"]);
    history.changed.push("kept".to_owned());
    assert_eq!(judge(&history, &["kept", "lost"]), ["I3"]);
    let doubled = History { doubled: vec!["key".to_owned()], ..History::default() };
    assert_eq!(judge(&doubled, &[]), ["I2"]);
    let confused = History { confused: vec!["key".to_owned()], ..History::default() };
    assert_eq!(judge(&confused, &[]), ["I2"]);
    let given_up = History { given_up: vec!["key".to_owned()], ..History::default() };
    assert_eq!(judge(&given_up, &[]), ["I1"]);
}

#[test]
fn more_runs_than_faults_allow_are_found() {
    let log = "begun a\nended a\nbegun b\nbegun b\nended b\nended b\n";
    let executions = Executions::read(log);
    assert_eq!(executions.run_again(), 1);
    let judge = |job: &Job, expected: &Expected| {
        found(|findings| executions.of_job(job, expected, findings))
    };
    assert_eq!(judge(&job(JobState::Succeeded), &expected()), ["I8", "I9"]);
    let handed_over = Job { interruptions: 1, ..job(JobState::Succeeded) };
    assert_eq!(judge(&handed_over, &expected()), ["I9"]);
    let lost = Job { lost_workers: 1, ..job(JobState::Succeeded) };
    assert!(judge(&lost, &expected()).is_empty());
    let poison = Expected { nature: Nature::Poison, ..Expected::of(vec!["p".to_owned()]) };
    let killer = Executions::read(&"begun p\n".repeat(5));
    let dead = Job { crashes: 4, ..job(JobState::Failed) };
    assert_eq!(found(|findings| killer.of_job(&dead, &poison, findings)), ["I13"]);
}

fn settings(kills: u32) -> Settings {
    Settings { kills, ..Settings::default() }
}

#[test]
fn faults_cost_no_more_than_they_touch() {
    let faults = Faults { by_kind: [(Fault::KillWorker, 1)].into(), ..Faults::default() };
    let judge = |totals: Totals| found(|f| totals.within(&faults, &settings(1), f));
    assert!(judge(Totals { lost_workers: 8, ..Totals::default() }).is_empty());
    assert_eq!(judge(Totals { lost_workers: 9, ..Totals::default() }), ["I8"]);
    assert_eq!(judge(Totals { crashes_of_others: 1, ..Totals::default() }), ["I13"]);
}

#[test]
fn faults_that_do_not_bite_are_found() {
    let kinds = [(Fault::KillWorker, 8), (Fault::Zombie, 1)];
    let faults = Faults { kills: 8, by_kind: kinds.into(), ..Faults::default() };
    let idle = Totals { jobs: settings(8).jobs.into(), ..Totals::default() };
    let good = Totals { redeliveries: 9, lost_workers: 9, ..idle };
    let fenced = Fenced::from([("heartbeat".to_owned(), 1)]);
    let judge = |faults: &Faults, totals, fenced: &Fenced| {
        found(|f| bitten(&settings(8), faults, &totals, (0, fenced), f))
    };
    assert!(judge(&faults, good, &fenced).is_empty());
    assert_eq!(judge(&faults, idle, &fenced), ["the faults bite"]);
    // Half of the jobs are no longer stored, and with them what befell them.
    let half = Totals { jobs: idle.jobs / 2, redeliveries: 1, lost_workers: 1, ..idle };
    assert!(judge(&faults, half, &fenced).is_empty());
    assert_eq!(judge(&faults, Totals { jobs: idle.jobs, ..half }, &fenced), ["the faults bite"]);
    assert_eq!(judge(&faults, good, &Fenced::new()), ["the faults bite"]);
    let missed = Faults { missed: [(Fault::KillEngine, 1)].into(), ..faults.clone() };
    assert_eq!(judge(&missed, good, &fenced), ["the faults bite"]);
    let none = Faults { kills: 0, ..faults };
    assert_eq!(judge(&none, good, &fenced), ["the faults bite"]);
}

#[test]
fn a_fleet_that_does_not_come_back_is_found() {
    let healed_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let started = |seconds: u64| {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let job = Job { started_at: Some(at.into()), ..Job::default() };
        BTreeMap::from([(seconds.to_string(), job)])
    };
    let judge = |seconds| {
        found(|findings| {
            recovery(&started(seconds), healed_at, findings);
        })
    };
    assert!(judge(1_014).is_empty());
    assert_eq!(judge(1_016), ["I19"]);
    assert_eq!(judge(999), ["I19"]);
}

#[test]
fn a_run_before_a_release_has_its_least_counts() {
    let kinds = [
        (Fault::KillBroker, 100),
        (Fault::KillDatabase, 100),
        (Fault::CutWorkers, 200),
        (Fault::KillAllWorkers, 20),
        (Fault::Zombie, 40),
    ];
    let judge = |kinds: &[(Fault, u32)]| {
        let by_kind = kinds.iter().copied().collect();
        let faults = Faults { kills: 2_100, by_kind, ..Faults::default() };
        let settings =
            Settings { broker: Broker::RabbitMq, store: Store::Postgres, ..settings(2_300) };
        let totals =
            Totals { jobs: u64::MAX, redeliveries: 999, lost_workers: 999, ..Totals::default() };
        let fenced = [("complete", 2), ("fail", 1), ("heartbeat", 99)];
        let fenced = fenced.map(|(call, reports)| (call.to_owned(), reports)).into();
        found(|f| bitten(&settings, &faults, &totals, (999, &fenced), f))
    };
    assert!(judge(&kinds).is_empty());
    for missing in 0..4 {
        let mut fewer = kinds;
        fewer[missing].1 -= 1;
        assert_eq!(judge(&fewer), ["the faults bite"], "{fewer:?}");
    }
}
