//! Gathers what clients, engines, logs and the fleet say at the end of a run, and has it judged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::time::SystemTime;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use stoker_proto::status;
use stoker_proto::v1::job_service_client::JobServiceClient;
use stoker_proto::v1::{
    FleetStatusRequest, FleetStatusResponse, Job, JobState, ListQueuesRequest, ListRequest,
    ResultsRequest,
};
use tonic::transport::Channel;

use crate::fleet::Fleet;
use crate::metrics;

use super::clients::{History, Outcome, Tries, count, results};
use super::verdict::{self, Executions, Failures, Fenced, Findings, Totals};
use super::{CANARY, Faults, PASSWORD, Resources, Settings, Stage};

const PAGE: u32 = 1_000;
const READ_AT_ONCE: usize = 16;
/// What a coordinator logs when it refuses reports.
const FENCED: &str = "reports of attempts that are over changed nothing";

/// What a worker logs when it reports an attempt as failed.
const FAILED: &str = "attempt failed";

/// What a worker logs with the address of its metrics.
const METRICS_SERVED: &str = "metrics are served";

/// How a run went.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub settings: Settings,
    pub faults: Faults,
    pub findings: Findings,
    pub accepted: usize,
    pub succeeded: usize,
    pub cancelled: usize,
    pub expired: usize,
    pub dead_letters: usize,
    /// How often clients tried each call, and how that went.
    pub tries: Tries,
    pub totals: Totals,
    /// Items that were run more than once.
    pub items_run_again: u64,
    /// Reports of attempts that were over, by call.
    pub fenced: BTreeMap<String, u64>,
    pub seconds_under_faults: f64,
    /// From the end of the faults to the next start of a job.
    pub seconds_to_recover: f64,
    /// Of a soak.
    pub resources: Option<Resources>,
    /// Where logs and history are, when something was found.
    pub kept: Option<PathBuf>,
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
    let settings = &stage.settings.clone();
    let jobs = all_jobs(&stage.fleet).await?;
    verdict::clients_saw(history, &jobs, &mut findings);
    let log = std::fs::read_to_string(&stage.executions).context("reading the executions")?;
    let executions = Executions::read(&log);
    let failures = failures(stage)?;
    let client = stage.fleet.jobs().await?;
    let known =
        history.accepted.iter().filter_map(|(id, expected)| Some((jobs.get(id)?, expected)));
    let known = stream::iter(known).map(|(job, expected)| {
        let client = &client;
        async move { anyhow::Ok((job, expected, stored(client, job).await?)) }
    });
    let mut known = pin!(known.buffered(READ_AT_ONCE));
    while let Some((job, expected, stored)) = known.try_next().await? {
        let read = history.read.get(&job.id).map(Vec::as_slice);
        verdict::one_job(job, expected, stored.as_deref(), read, &mut findings);
        executions.of_job(job, expected, &mut findings);
        verdict::failed_in_time(job, &failures, &mut findings);
    }
    let totals = Totals::of(&jobs, history);
    totals.within(faults, settings, &mut findings);
    queues(stage, &mut findings).await?;
    let fenced = secrets(stage, history, &mut findings).await?;
    store(stage, &mut findings).await?;
    let seconds_to_recover = verdict::recovery(&jobs, healed_at, &mut findings);
    verdict::bitten(
        settings,
        faults,
        &totals,
        (count(&history.tries, Outcome::Unknown), &fenced),
        &mut findings,
    );
    let of_state = |state| jobs.values().filter(|job| job.state() == state).count();
    Ok(Report {
        settings: settings.clone(),
        faults: faults.clone(),
        accepted: history.accepted.len() + history.verified.len(),
        succeeded: of_state(JobState::Succeeded),
        cancelled: of_state(JobState::Cancelled),
        expired: of_state(JobState::Expired),
        dead_letters: of_state(JobState::Failed),
        tries: history.tries.clone(),
        totals,
        items_run_again: executions.run_again(),
        fenced,
        seconds_under_faults: 0.0,
        seconds_to_recover,
        resources: None,
        kept: None,
        findings,
    })
}

/// The result that is stored for a job that has ended; `None` when it has none.
pub(super) async fn stored(
    client: &JobServiceClient<Channel>,
    job: &Job,
) -> anyhow::Result<Option<Vec<String>>> {
    if job.state() == JobState::Succeeded {
        return results(client, &job.id).await.map(Some);
    }
    let request = ResultsRequest { job_id: job.id.clone(), first_item: 0 };
    match client.clone().results(request).await {
        // Whoever asks is told that there is none; a coordinator that is away is another matter.
        Err(refusal) if !status::is_retryable(&refusal) => Ok(None),
        Err(away) => Err(away.into()),
        Ok(_) => results(client, &job.id).await.map(Some),
    }
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
        for queue in answer.into_inner().queues {
            if queue.broker_messages != Some(0) {
                return Ok(Err(format!("{:?} messages wait", queue.broker_messages)));
            }
        }
        // Those that are not acknowledged or parked are seen by the broker alone.
        let Some((node, _)) = &stage.broker else { return Ok(Ok(())) };
        let listed = node.ctl(&["list_queues", "--silent", "name", "messages"])?;
        let left = listed.lines().find(|line| !line.trim().is_empty() && !line.ends_with("\t0"));
        Ok(left.map_or(Ok(()), |left| Err(left.to_owned())))
    });
    if let Err(error) = empty.await {
        findings.add("I12", format!("{error:#}"));
    }
    Ok(())
}

/// Nobody says an input or a password, and nothing panicked. Answers how many reports were fenced.
async fn secrets(
    stage: &Stage,
    history: &History,
    findings: &mut Findings,
) -> anyhow::Result<Fenced> {
    let mut fenced = Fenced::new();
    let mut said = vec![
        ("a refusal".to_owned(), history.refusals.iter().cloned().collect::<Vec<_>>().join("\n")),
        ("the coordinator's metrics".to_owned(), metrics::read(stage.fleet.socket()).await?),
    ];
    let mut workers = 0;
    for (name, text) in logs(stage)? {
        // Of those that live.
        if let Some(address) = metrics_address(&text)
            && let Ok(metrics) = metrics::read(address).await
        {
            workers += 1;
            said.push((format!("the metrics of {name}"), metrics));
        }
        findings.require("no panic", !text.contains("panicked at"), || name.clone());
        for line in text.lines().filter(|line| line.contains(FENCED)) {
            let line: serde_json::Value = serde_json::from_str(line).context(FENCED)?;
            let call = line["call"].as_str().context("a refusal without its call")?;
            *fenced.entry(call.to_owned()).or_default() += line["reports"].as_u64().unwrap_or(0);
        }
        said.push((name, text));
    }
    findings.require("I18", workers >= stage.settings.workers, || {
        format!("metrics of {workers} workers could be read")
    });
    for (who, text) in said {
        for (secret, what) in [(CANARY, "an input"), (PASSWORD, "a password")] {
            findings.require("I18", !text.contains(secret), || format!("{what} stands in {who}"));
        }
    }
    Ok(fenced)
}

fn failures(stage: &Stage) -> anyhow::Result<Failures> {
    let mut failures = Failures::new();
    for (_, text) in logs(stage)? {
        for line in text.lines().filter(|line| line.contains(FAILED)) {
            let line: serde_json::Value = serde_json::from_str(line).context(FAILED)?;
            let number = |value: &serde_json::Value| {
                value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
            };
            let (job, attempt) = (line["job"].as_str(), number(&line["attempt"]));
            let (job, attempt) = job.zip(attempt).context("a failure without its attempt")?;
            failures.entry(job.to_owned()).or_default().insert(attempt);
        }
    }
    Ok(failures)
}

/// The logs of the fleet's processes, by name; not what the engines executed.
fn logs(stage: &Stage) -> anyhow::Result<Vec<(String, String)>> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(stage.fleet.folder())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        if is_log && path != stage.executions {
            logs.push((name, String::from_utf8_lossy(&std::fs::read(&path)?).into_owned()));
        }
    }
    Ok(logs)
}

/// Where a worker serves its metrics, by its log.
fn metrics_address(log: &str) -> Option<SocketAddr> {
    let line = log.lines().rfind(|line| line.contains(METRICS_SERVED))?;
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line["address"].as_str()?.parse().ok()
}

/// A coordinator checks its file when it starts, and refuses a damaged one; Postgres checks its indices
/// when it is asked to.
async fn store(stage: &mut Stage, findings: &mut Findings) -> anyhow::Result<()> {
    if let Some((server, _)) = &stage.database
        && let Err(error) = server.check_indices()
    {
        findings.add("I20", format!("{error:#}"));
    }
    stage.fleet.coordinator().kill9();
    if let Err(error) = stage.fleet.start_coordinator().await {
        findings.add("I20", format!("{error:#}"));
    }
    Ok(())
}
