//! The invariants of the promise, as rules over what clients, engines and the fleet say. No I/O.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use serde::Serialize;
use stoker_proto::v1::{Failure, FailureReason, Job, JobState};

use super::clients::{Cancel, Expected, History};
use super::nemesis::{Fault, Faults};
use super::{BEGUN, ENDED, Settings, unstamped};

/// Engines that a poison job may end; the default of the fleet.
const MAX_CRASHES: u32 = 3;
/// Most seconds from the end of the faults to the next start of a job.
const RECOVERY_LIMIT: f64 = 15.0;

/// What is wrong, by the number of the invariant.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Findings(BTreeMap<&'static str, Vec<String>>);

impl Findings {
    pub(super) fn add(&mut self, invariant: &'static str, what: impl Into<String>) {
        self.0.entry(invariant).or_default().push(what.into());
    }

    #[expect(clippy::fn_params_excessive_bools, reason = "what holds or not is a bool")]
    pub(super) fn require(
        &mut self,
        invariant: &'static str,
        holds: bool,
        what: impl FnOnce() -> String,
    ) {
        if !holds {
            self.add(invariant, what());
        }
    }

    pub(super) fn extend(&mut self, more: Self) {
        for (invariant, found) in more.0 {
            self.0.entry(invariant).or_default().extend(found);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For people, cut where it says the same many times.
    pub fn text(&self) -> String {
        const SHOWN: usize = 5;
        let mut text = String::new();
        for (invariant, found) in &self.0 {
            let _ = writeln!(text, "{invariant}: {} times", found.len());
            for one in found.iter().take(SHOWN) {
                let _ = writeln!(text, "    {one}");
            }
        }
        text
    }
}

pub(super) fn is_terminal(state: JobState) -> bool {
    [JobState::Succeeded, JobState::Failed, JobState::Cancelled, JobState::Expired].contains(&state)
}

/// What the clients saw, against the jobs that there are.
pub(super) fn clients_saw(
    history: &History,
    jobs: &BTreeMap<String, Job>,
    findings: &mut Findings,
) {
    for id in history.accepted.keys() {
        findings.require("I1", jobs.contains_key(id), || format!("accepted, and lost: {id}"));
    }
    for key in &history.given_up {
        findings.add("I1", format!("never accepted: {key}"));
    }
    let known = |id| history.accepted.contains_key(id) || history.verified.contains(id);
    for id in jobs.keys().filter(|id| !known(*id)) {
        findings.add("I2", format!("nobody submitted it: {id}"));
    }
    for key in &history.doubled {
        findings.add("I2", format!("two jobs of one key: {key}"));
    }
    for key in &history.confused {
        findings.add("I2", format!("a key was taken for two requests: {key}"));
    }
    for id in &history.changed {
        findings.add("I3", format!("its result changed: {id}"));
    }
}

/// Holds a job that has ended against what it had to answer. `stored` is its result, `read` what somebody
/// read of it before.
pub(super) fn one_job(
    job: &Job,
    expected: &Expected,
    stored: Option<&[String]>,
    read: Option<&[String]>,
    findings: &mut Findings,
) {
    let say = || format!("{job:?}");
    findings.require("I1", is_terminal(job.state()), say);
    let ended_well = match job.state() {
        JobState::Succeeded => !expected.poison && expected.cancel != Cancel::Answered,
        JobState::Cancelled => expected.cancel != Cancel::Never,
        JobState::Expired => expected.deadline,
        JobState::Failed => expected.poison,
        _ => false,
    };
    findings.require("I5", ended_well, say);
    // No engine reports an error that counts as a failure.
    findings.require("I7", job.failures == 0, say);
    let ended = job.lost_workers + job.crashes + job.interruptions + 1;
    findings.require("I6", job.attempts <= ended, say);
    if expected.poison {
        let reason = job.failure.as_ref().map(Failure::reason);
        findings.require("I13", reason == Some(FailureReason::Poison), say);
        findings.require("I13", job.crashes <= MAX_CRASHES, say);
    }
    if job.state() == JobState::Succeeded {
        let texts = stored.map(|stored| stored.iter().map(|text| unstamped(text)));
        let whole = texts.is_some_and(|texts| texts.eq(expected.texts.iter().map(String::as_str)));
        findings.require("I4", whole, || format!("{stored:?} of {job:?}"));
        let same = read.is_none_or(|read| Some(read) == stored);
        findings.require("I3", same, || format!("{read:?} and {stored:?} of {job:?}"));
    } else {
        findings.require("I10", stored.is_none(), || format!("it has results: {job:?}"));
        findings
            .require("I5", read.is_none(), || format!("a result was read, and is gone: {job:?}"));
    }
}

/// How often each text began to run and ended, by the log that the engines write.
#[derive(Debug, Default)]
pub(super) struct Executions {
    begun: BTreeMap<String, u64>,
    ended: BTreeMap<String, u64>,
}

impl Executions {
    pub(super) fn read(log: &str) -> Self {
        let mut executions = Self::default();
        for line in log.lines() {
            if let Some(text) = line.strip_prefix(BEGUN) {
                *executions.begun.entry(text.to_owned()).or_default() += 1;
            } else if let Some(text) = line.strip_prefix(ENDED) {
                *executions.ended.entry(text.to_owned()).or_default() += 1;
            }
        }
        executions
    }

    /// Items that ended more than once.
    pub(super) fn run_again(&self) -> u64 {
        self.ended.values().map(|runs| runs - 1).sum()
    }

    fn run_again_of(&self, expected: &Expected) -> u64 {
        let runs = expected.texts.iter().filter_map(|text| self.ended.get(text));
        runs.map(|runs| runs - 1).sum()
    }

    /// An attempt runs each item once at most, and one that was handed over with notice leaves nothing to
    /// run again.
    pub(super) fn of_job(&self, job: &Job, expected: &Expected, findings: &mut Findings) {
        let faults = u64::from(job.lost_workers + job.crashes + job.interruptions);
        let begun = expected.texts.iter().filter_map(|text| self.begun.get(text));
        let most = begun.max().copied().unwrap_or_default();
        findings.require("I8", most <= 1 + faults, || format!("an item ran {most} times: {job:?}"));
        let again = self.run_again_of(expected);
        if job.lost_workers + job.crashes == 0 {
            findings.require("I9", again == 0, || format!("{again} items ran again: {job:?}"));
        }
        if expected.poison {
            let killed = most.saturating_sub(u64::from(job.lost_workers + job.interruptions));
            findings.require("I13", killed <= u64::from(MAX_CRASHES), || {
                format!("it ran {most} times: {job:?}")
            });
        }
    }
}

/// Sums over all jobs.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Totals {
    /// Releases to the queue beyond each job's first.
    pub redeliveries: u64,
    /// Leases that expired.
    pub lost_workers: u64,
    pub interruptions: u64,
    pub crashes: u64,
    /// Of jobs that do not kill their engine.
    pub crashes_of_others: u64,
    pub poisons: u64,
}

impl Totals {
    pub(super) fn of(jobs: &BTreeMap<String, Job>, history: &History) -> Self {
        let mut totals = Self::default();
        for (id, job) in jobs {
            let poison = history.accepted.get(id).is_some_and(|expected| expected.poison)
                || job.state() == JobState::Failed;
            totals.redeliveries += u64::from(job.dispatches.saturating_sub(1));
            totals.lost_workers += u64::from(job.lost_workers);
            totals.interruptions += u64::from(job.interruptions);
            totals.crashes += u64::from(job.crashes);
            totals.crashes_of_others += if poison { 0 } else { u64::from(job.crashes) };
            totals.poisons += u64::from(poison);
        }
        totals
    }

    /// No fault costs more jobs an attempt than it touched.
    pub(super) fn within(&self, faults: &Faults, settings: &Settings, findings: &mut Findings) {
        let slots = u64::from(super::SLOTS);
        let leases = faults.leases_at_stake(settings.workers, super::SLOTS.into());
        findings.require("I8", self.lost_workers <= leases, || {
            format!("{} leases expired, and faults touched {leases} at most", self.lost_workers)
        });
        // The neighbors of a first crash are suspects; from then on each has the engine to itself.
        let suspects = slots * (u64::from(faults.of(Fault::KillEngine)) + self.poisons);
        findings.require("I13", self.crashes_of_others <= suspects, || {
            format!("{} crashes of jobs that are none", self.crashes_of_others)
        });
    }
}

/// Reports of attempts that were over, by call.
pub(super) type Fenced = BTreeMap<String, u64>;

/// A run whose faults did not bite proves nothing.
pub(super) fn bitten(
    settings: &Settings,
    faults: &Faults,
    totals: &Totals,
    (unknown, fenced): (u64, &Fenced),
    findings: &mut Findings,
) {
    let done = |fault| u64::from(faults.of(fault));
    let zombies = done(Fault::Zombie);
    for (what, count, least) in [
        ("kills", u64::from(faults.kills), u64::from(settings.kills) * 9 / 10),
        // Nearly every worker runs something when it is killed, and some client is at work whenever a
        // coordinator is; but not always.
        ("redeliveries", totals.redeliveries, done(Fault::KillWorker) / 4),
        ("expired leases", totals.lost_workers, done(Fault::KillWorker) / 4),
        ("tries without an answer", unknown, done(Fault::KillCoordinator) / 4),
        // A worker that wakes after its lease reports what it had.
        ("fenced reports", fenced.values().sum(), zombies.div_ceil(4)),
        ("fenced completions", fenced.get("complete").copied().unwrap_or_default(), zombies / 20),
    ] {
        findings.require("the faults bite", count >= least, || {
            format!("{count} {what}, fewer than {least}")
        });
    }
    for (fault, missed) in &faults.missed {
        findings.require("the faults bite", u64::from(*missed) <= done(*fault) / 3, || {
            format!("{missed} times {fault:?} found nobody")
        });
    }
}

/// Seconds from the end of the faults to the next start of a job, which may be one that waited.
pub(super) fn recovery(
    jobs: &BTreeMap<String, Job>,
    healed_at: SystemTime,
    findings: &mut Findings,
) -> f64 {
    let started = |job: &Job| job.started_at.and_then(|at| SystemTime::try_from(at).ok());
    let starts = jobs.values().filter_map(started);
    let waited = starts.filter_map(|at| at.duration_since(healed_at).ok()).min();
    let seconds = waited.map_or(f64::INFINITY, |waited| waited.as_secs_f64());
    findings.require("I19", seconds <= RECOVERY_LIMIT, || {
        format!("no job started for {seconds:.1} s after the faults")
    });
    seconds
}

#[cfg(test)]
mod tests {
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
        assert!(of_job(&dead, &Expected { poison: true, ..expected() }, None).is_empty());
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
        let poison = Expected { poison: true, ..expected() };
        let dead = Job { crashes: 4, attempts: 4, ..job(JobState::Failed) };
        assert_eq!(of_job(&dead, &poison, None), ["I13"]);
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
        let poison = Expected { poison: true, ..Expected::of(vec!["p".to_owned()]) };
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
        let good = Totals { redeliveries: 9, lost_workers: 9, ..Totals::default() };
        let fenced = Fenced::from([("heartbeat".to_owned(), 1)]);
        let judge = |faults: &Faults, totals, fenced: &Fenced| {
            found(|f| bitten(&settings(8), faults, &totals, (0, fenced), f))
        };
        assert!(judge(&faults, good, &fenced).is_empty());
        assert_eq!(judge(&faults, Totals::default(), &fenced), ["the faults bite"]);
        assert_eq!(judge(&faults, good, &Fenced::new()), ["the faults bite"]);
        let missed = Faults { missed: [(Fault::KillEngine, 1)].into(), ..faults.clone() };
        assert_eq!(judge(&missed, good, &fenced), ["the faults bite"]);
        let idle = Faults { kills: 0, ..faults };
        assert_eq!(judge(&idle, good, &fenced), ["the faults bite"]);
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
}
