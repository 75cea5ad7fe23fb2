//! The invariants of the promise, held against what clients and engines wrote down.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::SystemTime;

use anyhow::Context as _;
use serde::Serialize;
use stoker_proto::v1::job_service_client::JobServiceClient;
use stoker_proto::v1::{
    Failure, FailureReason, FleetStatusRequest, FleetStatusResponse, Job, JobState,
    ListQueuesRequest, ListRequest, ResultsRequest,
};
use tonic::transport::Channel;

use crate::fleet::Fleet;

use super::clients::{Expected, History, results};
use super::nemesis::Fault;
use super::{CANARY, Faults, Mode, Resources, Settings, Stage};

const PAGE: u32 = 1_000;
/// Most seconds from the end of the faults to the next start of a job.
const RECOVERY_LIMIT: f64 = 15.0;
/// What a coordinator logs when it refuses reports.
const FENCED: &str = "reports of attempts that are over changed nothing";

/// What is wrong, by the number of the invariant.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Findings(BTreeMap<&'static str, Vec<String>>);

impl Findings {
    pub(super) fn add(&mut self, invariant: &'static str, what: impl Into<String>) {
        self.0.entry(invariant).or_default().push(what.into());
    }

    #[expect(clippy::fn_params_excessive_bools, reason = "what holds or not is a bool")]
    fn require(&mut self, invariant: &'static str, holds: bool, what: impl FnOnce() -> String) {
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

/// How a run went.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub settings: Settings,
    pub faults: Faults,
    pub findings: Findings,
    pub accepted: usize,
    pub succeeded: usize,
    pub cancelled: usize,
    pub dead_letters: usize,
    /// Calls without an answer.
    pub unknown_answers: u64,
    /// Releases to the queue beyond each job's first.
    pub redeliveries: u64,
    pub lost_workers: u64,
    pub interruptions: u64,
    pub crashes: u64,
    /// Items that were run more than once.
    pub items_run_again: u64,
    /// Of jobs that were handed back with notice and never lost otherwise.
    pub items_run_again_after_notice: u64,
    /// Reports of attempts that were over, as the coordinator's logs count them.
    pub fenced: u64,
    pub seconds_under_faults: f64,
    /// From the end of the faults to the next start of a job.
    pub seconds_to_recover: f64,
    /// Of a soak.
    pub resources: Option<Resources>,
}

/// The fleet's status, and how many jobs have not ended.
pub(super) async fn open_jobs(fleet: &Fleet) -> anyhow::Result<(FleetStatusResponse, u64)> {
    let status = fleet.admin().await?.fleet_status(FleetStatusRequest {}).await?.into_inner();
    let open = [JobState::Queued, JobState::Dispatched, JobState::Leased, JobState::RetryWait];
    let counted = status.jobs.iter().filter(|count| open.contains(&count.state()));
    let jobs = counted.map(|count| count.jobs).sum();
    Ok((status, jobs))
}

pub(super) async fn judge(
    stage: &mut Stage,
    history: &History,
    faults: &Faults,
    healed_at: SystemTime,
) -> anyhow::Result<Report> {
    let mut findings = history.findings.clone();
    let jobs = all_jobs(&stage.fleet).await?;
    clients_saw(history, &jobs, &mut findings);
    let executed = executions(stage)?;
    let client = stage.fleet.jobs().await?;
    let mut again_after_notice = 0;
    for (id, expected) in &history.accepted {
        let Some(job) = jobs.get(id) else { continue };
        one_job(&client, job, expected, history.read.get(id), &mut findings).await?;
        let runs = || expected.texts.iter().filter_map(|text| executed.get(text));
        let faults_of_job = u64::from(job.lost_workers + job.crashes + job.interruptions);
        let most = runs().max().copied().unwrap_or_default();
        // An attempt runs each item once at most, and goes on where the one before was checkpointed.
        findings.require("I8, I9", most <= 1 + faults_of_job, || {
            format!("an item of {id} ran {most} times: {job:?}")
        });
        if job.lost_workers + job.crashes == 0 {
            again_after_notice += runs().map(|runs| runs - 1).sum::<u64>();
        }
    }
    queues(stage, &mut findings).await?;
    let fenced = logs(stage, &mut findings)?;
    store(stage, &mut findings).await?;
    let seconds_to_recover = recovery(&jobs, healed_at);
    findings.require("I19", seconds_to_recover <= RECOVERY_LIMIT, || {
        format!("no job started for {seconds_to_recover:.1} s after the faults")
    });
    let of_state = |state| jobs.values().filter(|job| job.state() == state).count();
    let total = |count: fn(&Job) -> u32| jobs.values().map(|job| u64::from(count(job))).sum();
    let report = Report {
        settings: stage.settings.clone(),
        faults: faults.clone(),
        accepted: history.accepted.len() + history.verified.len(),
        succeeded: of_state(JobState::Succeeded),
        cancelled: of_state(JobState::Cancelled),
        dead_letters: of_state(JobState::Failed),
        unknown_answers: history.unknown,
        redeliveries: total(|job| job.dispatches.saturating_sub(1)),
        lost_workers: total(|job| job.lost_workers),
        interruptions: total(|job| job.interruptions),
        crashes: total(|job| job.crashes),
        items_run_again: executed.values().map(|runs| runs - 1).sum(),
        items_run_again_after_notice: again_after_notice,
        fenced,
        seconds_under_faults: 0.0,
        seconds_to_recover,
        resources: None,
        findings,
    };
    Ok(if report.settings.mode == Mode::Chaos { bitten(report) } else { report })
}

/// Seconds from the end of the faults to the next start of a job, which may be one that waited.
fn recovery(jobs: &BTreeMap<String, Job>, healed_at: SystemTime) -> f64 {
    let started = |job: &Job| job.started_at.and_then(|at| SystemTime::try_from(at).ok());
    let starts = jobs.values().filter_map(started);
    let waited = starts.filter_map(|at| at.duration_since(healed_at).ok()).min();
    waited.map_or(f64::INFINITY, |waited| waited.as_secs_f64())
}

/// A run whose faults did not bite proves nothing.
fn bitten(mut report: Report) -> Report {
    let done = |fault| report.faults.by_kind.get(&fault).copied().unwrap_or_default();
    let (coordinators, workers) = (done(Fault::KillCoordinator), done(Fault::KillWorker));
    for (what, count, least) in [
        ("kills", u64::from(report.faults.kills), report.settings.kills),
        // Nearly every worker runs something when it is killed, and some client is at work whenever a
        // coordinator is; but not always.
        ("redeliveries", report.redeliveries, workers / 4),
        ("expired leases", report.lost_workers, workers / 4),
        ("tries without an answer", report.unknown_answers, coordinators / 4),
        // A worker that wakes after its lease reports what it had.
        ("fenced reports", report.fenced, done(Fault::Zombie) / 4),
    ] {
        report.findings.require("the faults bite", count >= u64::from(least), || {
            format!("{count} {what}, fewer than {least}")
        });
    }
    report
}

fn clients_saw(history: &History, jobs: &BTreeMap<String, Job>, findings: &mut Findings) {
    for id in history.accepted.keys() {
        findings.require("I1", jobs.contains_key(id), || format!("accepted, and lost: {id}"));
    }
    let known = |id| history.accepted.contains_key(id) || history.verified.contains(id);
    for id in jobs.keys().filter(|id| !known(*id)) {
        findings.add("I2", format!("nobody submitted it: {id}"));
    }
    for key in &history.doubled {
        findings.add("I2", format!("two jobs of one key: {key}"));
    }
    for key in &history.given_up {
        findings.add("I1", format!("never accepted, though asked for minutes: {key}"));
    }
    for id in &history.changed {
        findings.add("I3", format!("its result changed: {id}"));
    }
}

/// Holds a job that has ended against what it had to answer; `read` is what somebody read of it before.
pub(super) async fn one_job(
    client: &JobServiceClient<Channel>,
    job: &Job,
    expected: &Expected,
    read: Option<&Vec<String>>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let say = || format!("{job:?}");
    findings.require("I1", is_terminal(job.state()), say);
    let ended_well = match job.state() {
        JobState::Succeeded => !expected.poison,
        JobState::Cancelled => expected.cancelled,
        JobState::Failed => expected.poison,
        _ => false,
    };
    findings.require("I5", ended_well, say);
    findings.require("I7", job.failures == 0, say);
    if expected.poison {
        let reason = job.failure.as_ref().map(Failure::reason);
        findings.require("I13", reason == Some(FailureReason::Poison), say);
        findings.require("I13", job.crashes <= 3, say);
    }
    let ended = job.lost_workers + job.crashes + job.interruptions + 1;
    findings.require("I6", job.attempts <= ended, say);
    if job.state() == JobState::Succeeded {
        let stored = results(client, &job.id).await?;
        findings.require("I4", stored == expected.texts, || job.id.clone());
        findings.require("I3", read.is_none_or(|read| *read == stored), || job.id.clone());
    } else {
        let request = ResultsRequest { job_id: job.id.clone(), first_item: 0 };
        let refused = client.clone().results(request).await;
        findings.require("I10", refused.is_err(), || format!("it has results: {job:?}"));
        findings
            .require("I5", read.is_none(), || format!("a result was read, and is gone: {job:?}"));
    }
    Ok(())
}

pub(super) fn is_terminal(state: JobState) -> bool {
    [JobState::Succeeded, JobState::Failed, JobState::Cancelled, JobState::Expired].contains(&state)
}

/// How often each text was run, by the log that the engines write.
fn executions(stage: &Stage) -> anyhow::Result<BTreeMap<String, u64>> {
    let log = std::fs::read_to_string(&stage.executions).context("reading the executions")?;
    let mut runs = BTreeMap::new();
    for line in log.lines() {
        *runs.entry(line.to_owned()).or_default() += 1;
    }
    Ok(runs)
}

async fn all_jobs(fleet: &Fleet) -> anyhow::Result<BTreeMap<String, Job>> {
    let mut jobs = BTreeMap::new();
    let mut request = ListRequest { page_size: PAGE, ..ListRequest::default() };
    loop {
        let page = fleet.jobs().await?.list(request.clone()).await?.into_inner();
        jobs.extend(page.jobs.into_iter().map(|job| (job.id.clone(), job)));
        if page.next_page_token.is_empty() {
            return Ok(jobs);
        }
        request.page_token = page.next_page_token;
    }
}

async fn queues(stage: &Stage, findings: &mut Findings) -> anyhow::Result<()> {
    let (status, open) = open_jobs(&stage.fleet).await?;
    findings.require("I11", open == 0, || format!("{open} jobs are open"));
    findings.require("I12", status.outbox == 0, || format!("{} in the outbox", status.outbox));
    // Hints of jobs that have ended may be left; workers take and drop them.
    let empty = crate::poll::until("empty queues", crate::fleet::PATIENCE, || async {
        let answer = stage.fleet.admin().await?.list_queues(ListQueuesRequest {}).await?;
        let left: u64 =
            answer.into_inner().queues.iter().filter_map(|queue| queue.broker_messages).sum();
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} messages")) })
    });
    if let Err(error) = empty.await {
        findings.add("I12", format!("{error:#}"));
    }
    Ok(())
}

/// No log shows an input or a password, and nothing panicked. Answers how many calls were fenced.
fn logs(stage: &Stage, findings: &mut Findings) -> anyhow::Result<u64> {
    let mut fenced = 0;
    let password = stage.broker.as_ref().map(|node| node.uri());
    let password = password.as_deref().and_then(|uri| uri.split(':').nth(2)?.split('@').next());
    let mut told = BTreeSet::new();
    for entry in std::fs::read_dir(stage.fleet.folder())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        if !is_log || name == "executions.log" {
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
        for (secret, what) in
            [(Some(CANARY), "an input"), (password.filter(|p| p.len() > 5), "a password")]
        {
            if secret.is_some_and(|secret| text.contains(secret))
                && told.insert((what, name.clone()))
            {
                findings.add("I18", format!("{what} stands in {name}"));
            }
        }
        findings.require("no panic", !text.contains("panicked at"), || name.clone());
        fenced += u64::try_from(text.matches(FENCED).count())?;
    }
    Ok(fenced)
}

/// A coordinator checks its store when it starts, and refuses a damaged one.
async fn store(stage: &mut Stage, findings: &mut Findings) -> anyhow::Result<()> {
    stage.fleet.coordinator().kill9();
    if let Err(error) = stage.fleet.start_coordinator().await {
        findings.add("I20", format!("{error:#}"));
    }
    Ok(())
}
