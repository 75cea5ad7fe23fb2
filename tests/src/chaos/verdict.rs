//! The invariants of the promise, as rules over what clients, engines and the fleet say. No I/O.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::SystemTime;

use serde::Serialize;
use stoker_proto::v1::{Failure, FailureReason, Job, JobState};

use super::clients::{Cancel, Expected, History, Nature};
use super::nemesis::{Fault, Faults};
use super::{BEGUN, Broker, ENDED, Settings, Store, unstamped};

/// Engines that a poison job may end; the default of the fleet.
const MAX_CRASHES: u32 = 3;
/// Most seconds from the end of the faults to the next start of a job.
const RECOVERY_LIMIT: f64 = 15.0;

/// Kills of a run before a release, some of which find nobody; 2,000 are asked for.
const RELEASE: u32 = 2_300;

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
    for (id, told) in &history.ended {
        if let Some(job) = jobs.get(id) {
            same_end(told, job, findings);
        }
    }
}

/// A job that has ended never changes again. `told` is what somebody heard of its end.
pub(super) fn same_end(told: &Job, now: &Job, findings: &mut Findings) {
    let end = |job: &Job| (job.state, job.failure.clone(), job.attempts, job.finished_at);
    findings.require("I5", end(told) == end(now), || format!("it ended as {told:?}, then {now:?}"));
}

/// What a stream says of a job never goes back.
pub(super) fn went_on(before: &Job, after: &Job, findings: &mut Findings) {
    let begun = |job: &Job| (job.dispatches, job.attempts);
    let (was, is) = (begun(before), begun(after));
    findings.require("I6", was.0 <= is.0 && was.1 <= is.1, || {
        format!("a stream went back from {before:?} to {after:?}")
    });
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
        JobState::Succeeded => {
            expected.nature != Nature::Poison && expected.cancel != Cancel::Answered
        }
        JobState::Cancelled => expected.cancel != Cancel::Never,
        JobState::Expired => expected.deadline,
        JobState::Failed => expected.nature != Nature::Sound,
        _ => false,
    };
    findings.require("I5", ended_well, say);
    // An engine's refusal ends its job; nothing else that engines report counts as a failure.
    let refused = expected.nature == Nature::FailsOnce && job.state() == JobState::Failed;
    findings.require("I7", job.failures <= u32::from(refused), say);
    let ended = job.lost_workers + job.crashes + job.interruptions + 1;
    findings.require("I6", job.attempts <= ended, say);
    let reason = job.failure.as_ref().map(Failure::reason);
    match expected.nature {
        Nature::Poison => {
            findings.require("I13", reason == Some(FailureReason::Poison), say);
            findings.require("I13", job.crashes <= MAX_CRASHES, say);
        }
        Nature::FailsOnce if refused => {
            findings.require("I5", reason == Some(FailureReason::Permanent), say);
        }
        Nature::FailsOnce | Nature::Sound => {}
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

/// The attempts at each job that were reported as failed, by the logs of the workers.
pub(super) type Failures = BTreeMap<String, BTreeSet<u64>>;

/// A job failed by what its last attempt said, and by nothing that was over; and an attempt has one end.
pub(super) fn failed_in_time(job: &Job, failures: &Failures, findings: &mut Findings) {
    let ends = job.lost_workers + job.crashes + job.interruptions + job.failures;
    let say = || format!("{job:?}, and these attempts failed: {:?}", failures.get(&job.id));
    let permanent = job.failure.as_ref().map(Failure::reason) == Some(FailureReason::Permanent);
    if permanent {
        let reported = failures.get(&job.id);
        let last = reported.is_some_and(|failed| failed.contains(&u64::from(job.attempts)));
        findings.require("I7", last && ends <= job.attempts, say);
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
        let say = || format!("it ran {most} times: {job:?}");
        match (expected.nature, job.state()) {
            (Nature::Poison, _) => {
                let killed = most.saturating_sub(u64::from(job.lost_workers + job.interruptions));
                findings.require("I13", killed <= u64::from(MAX_CRASHES), say);
            }
            // The first run was refused.
            (Nature::FailsOnce, JobState::Succeeded) => findings.require("I4", most > 1, say),
            (Nature::FailsOnce | Nature::Sound, _) => {}
        }
    }
}

/// Sums over all jobs that are still stored.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Totals {
    pub jobs: u64,
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
            let expected = history.accepted.get(id).map(|expected| expected.nature);
            let reason = job.failure.as_ref().map(Failure::reason);
            let poison = expected == Some(Nature::Poison) || reason == Some(FailureReason::Poison);
            totals.jobs += 1;
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
    // What befell jobs that are no longer stored is not counted.
    let all = u64::from(settings.jobs);
    let stored = |least: u64| least * totals.jobs.min(all) / all.max(1);
    let of_kills = stored(done(Fault::KillWorker) / 4);
    for (what, count, least) in [
        ("kills", u64::from(faults.kills), u64::from(settings.kills) * 9 / 10),
        // Nearly every worker runs something when it is killed, and some client is at work whenever a
        // coordinator is; but not always.
        ("redeliveries", totals.redeliveries, of_kills),
        ("expired leases", totals.lost_workers, of_kills),
        ("tries without an answer", unknown, done(Fault::KillCoordinator) / 4),
        // A worker that wakes after its lease reports what it had.
        ("fenced reports", fenced.values().sum(), zombies.div_ceil(4)),
        ("fenced completions", fenced.get("complete").copied().unwrap_or_default(), zombies / 20),
        ("fenced failures", fenced.get("fail").copied().unwrap_or_default(), zombies / 40),
    ] {
        findings.require("the faults bite", count >= least, || {
            format!("{count} {what}, fewer than {least}")
        });
    }
    if settings.kills >= RELEASE {
        let network: u64 = Fault::OF_NETWORK.iter().map(|(fault, _)| done(*fault)).sum();
        for (what, count, least) in [
            ("kills", u64::from(faults.kills), 2_000),
            ("broker kills", done(Fault::KillBroker), 100),
            ("database kills", done(Fault::KillDatabase), 100),
            ("network faults", network, 200),
            ("mass losses", done(Fault::KillAllWorkers), 20),
        ] {
            let asked = match what {
                "broker kills" => settings.broker == Broker::RabbitMq,
                "database kills" => settings.store == Store::Postgres,
                _ => true,
            };
            findings.require("the faults bite", !asked || count >= least, || {
                format!("{count} {what}, fewer than the {least} of a release")
            });
        }
    }
    for (fault, missed) in &faults.missed {
        findings.require("the faults bite", u64::from(*missed) <= done(*fault) / 2, || {
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
