//! Jobs: rows, a page of details, and documents.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use stoker_core::time::Timestamp;
use stoker_proto::v1;

use super::state::{failure_reason, job_state};
use super::table::{Column, left, or_dash, pairs, right, table};
use super::text::{grouped, shorten};
use super::time::{from_wire, rfc3339_from_wire, span};

/// Longest error message in a row; the details show all of it.
const MAX_MESSAGE: usize = 80;

/// A job as a document. Fields are only ever added.
#[derive(Debug, Serialize)]
pub(crate) struct JobDocument<'a> {
    id: &'a str,
    state: String,
    model: &'a str,
    class: &'a str,
    pool: &'a str,
    tenant: &'a str,
    items_total: u32,
    items_done: u32,
    attempts: u32,
    failures: u32,
    crashes: u32,
    lost_workers: u32,
    interruptions: u32,
    dispatches: u32,
    accepted_at: Option<String>,
    started_at: Option<String>,
    finished_at: Option<String>,
    deadline_at: Option<String>,
    retry_at: Option<String>,
    wait_seconds: Option<f64>,
    run_seconds: Option<f64>,
    worker_id: Option<&'a str>,
    labels: &'a BTreeMap<String, String>,
    input_bytes: u64,
    result_bytes: u64,
    retry_of: Option<&'a str>,
    retried_as: Option<&'a str>,
    cancel_requested: bool,
    failure: Option<FailureDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct FailureDocument<'a> {
    reason: Option<String>,
    code: &'a str,
    message: &'a str,
}

/// A job for programs.
pub(crate) fn document(job: &v1::Job) -> JobDocument<'_> {
    JobDocument {
        id: &job.id,
        state: job_state(job.state),
        model: &job.model,
        class: &job.class,
        pool: &job.pool,
        tenant: &job.tenant,
        items_total: job.items_total,
        items_done: job.items_done,
        attempts: job.attempts,
        failures: job.failures,
        crashes: job.crashes,
        lost_workers: job.lost_workers,
        interruptions: job.interruptions,
        dispatches: job.dispatches,
        accepted_at: rfc3339_from_wire(job.accepted_at.as_ref()),
        started_at: rfc3339_from_wire(job.started_at.as_ref()),
        finished_at: rfc3339_from_wire(job.finished_at.as_ref()),
        deadline_at: rfc3339_from_wire(job.deadline_at.as_ref()),
        retry_at: rfc3339_from_wire(job.retry_at.as_ref()),
        wait_seconds: wait(job).map(|wait| wait.as_secs_f64()),
        run_seconds: run(job).map(|run| run.as_secs_f64()),
        worker_id: set(&job.worker_id),
        labels: &job.labels,
        input_bytes: job.input_bytes,
        result_bytes: job.result_bytes,
        retry_of: set(&job.retry_of),
        retried_as: set(&job.retried_as),
        cancel_requested: job.cancel_requested,
        failure: job.failure.as_ref().map(failure_document),
    }
}

fn failure_document(failure: &v1::Failure) -> FailureDocument<'_> {
    let reason = failure_reason(failure.reason);
    FailureDocument {
        reason: (!reason.is_empty()).then_some(reason),
        code: &failure.code,
        message: &failure.message,
    }
}

fn set(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// From acceptance to the first start, once it has started.
pub(crate) fn wait(job: &v1::Job) -> Option<Duration> {
    let started = from_wire(job.started_at.as_ref())?;
    Some(started.since(from_wire(job.accepted_at.as_ref())?))
}

/// From the first start to the end, once it has ended.
pub(crate) fn run(job: &v1::Job) -> Option<Duration> {
    let finished = from_wire(job.finished_at.as_ref())?;
    Some(finished.since(from_wire(job.started_at.as_ref())?))
}

const COLUMNS: [Column; 9] = [
    left("ID"),
    left("STATE"),
    left("MODEL"),
    left("CLASS"),
    right("ITEMS"),
    right("ATTEMPTS"),
    right("AGE"),
    right("WAIT"),
    right("RUN"),
];

/// A line for each job, the failed with their reason.
pub(crate) fn rows(jobs: &[v1::Job], now: Timestamp) -> String {
    table(&COLUMNS, jobs.iter().map(|job| row(job, now)))
}

/// Rows that continue a table whose heading was printed before.
pub(crate) fn more_rows(jobs: &[v1::Job], now: Timestamp) -> String {
    let text = rows(jobs, now);
    text.split_once('\n').map(|(_, rows)| rows.to_owned()).unwrap_or_default()
}

fn row(job: &v1::Job, now: Timestamp) -> Vec<String> {
    let age = from_wire(job.accepted_at.as_ref()).map(|accepted| span(now.since(accepted)));
    vec![
        job.id.clone(),
        job_state(job.state),
        job.model.clone(),
        or_dash(job.class.clone()),
        items(job),
        job.attempts.to_string(),
        or_dash(age.unwrap_or_default()),
        or_dash(wait(job).map(span).unwrap_or_default()),
        or_dash(run(job).map(span).unwrap_or_default()),
    ]
}

fn items(job: &v1::Job) -> String {
    if job.items_done == job.items_total {
        job.items_total.to_string()
    } else {
        format!("{}/{}", job.items_done, job.items_total)
    }
}

/// One line about the last error of a job: reason, code and message.
pub(crate) fn failure_line(failure: &v1::Failure, limit: Option<usize>) -> String {
    let reason = failure_reason(failure.reason);
    let mut parts = vec![reason.as_str(), failure.code.as_str(), failure.message.as_str()];
    parts.retain(|part| !part.is_empty());
    let line = parts.join(": ");
    limit.map_or_else(|| line.clone(), |limit| shorten(&line, limit))
}

/// What a job did when it changed, on one line: for streams of changes.
pub(crate) fn change(job: &v1::Job) -> String {
    let mut line = format!("{}  {}  {} items", job.id, job_state(job.state), items(job));
    if !job.worker_id.is_empty() {
        line.push_str("  on ");
        line.push_str(&job.worker_id);
    }
    if let Some(failure) = &job.failure {
        line.push_str("  ");
        line.push_str(&failure_line(failure, Some(MAX_MESSAGE)));
    }
    line
}

/// Everything about one job.
pub(crate) fn details(job: &v1::Job, waiting_for: &str, now: Timestamp) -> String {
    let mut lines = vec![
        ("id", job.id.clone()),
        ("state", job_state(job.state)),
        ("waiting for", waiting_for.to_owned()),
        ("failure", job.failure.as_ref().map(|f| failure_line(f, None)).unwrap_or_default()),
        ("model", job.model.clone()),
        ("class", job.class.clone()),
        ("pool", job.pool.clone()),
        ("tenant", job.tenant.clone()),
        ("items", items(job)),
        ("attempts", attempts(job)),
        ("worker", job.worker_id.clone()),
    ];
    lines.extend(times(job, now));
    lines.push(("wait", wait(job).map(span).unwrap_or_default()));
    lines.push(("run", run(job).map(span).unwrap_or_default()));
    lines.push(("input", format!("{} bytes", grouped(job.input_bytes))));
    let result = job.result_bytes;
    lines.push((
        "result",
        if result == 0 { String::new() } else { format!("{} bytes", grouped(result)) },
    ));
    let labels: Vec<_> = job.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    lines.push(("labels", labels.join(" ")));
    lines.push(("retry of", job.retry_of.clone()));
    lines.push(("retried as", job.retried_as.clone()));
    lines.push(("cancel", if job.cancel_requested { "requested".into() } else { String::new() }));
    pairs(lines.into_iter().filter(|(_, value)| !value.is_empty()))
}

fn attempts(job: &v1::Job) -> String {
    let spent = [
        (job.failures, "failed"),
        (job.crashes, "crashed"),
        (job.lost_workers, "lost with their worker"),
        (job.interruptions, "interrupted"),
    ];
    let spent: Vec<String> = spent
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    if spent.is_empty() {
        job.attempts.to_string()
    } else {
        format!("{} ({})", job.attempts, spent.join(", "))
    }
}

fn times(job: &v1::Job, now: Timestamp) -> Vec<(&'static str, String)> {
    let times = [
        ("accepted", &job.accepted_at),
        ("started", &job.started_at),
        ("finished", &job.finished_at),
        ("deadline", &job.deadline_at),
        ("next attempt", &job.retry_at),
    ];
    let shown = |(name, time): (&'static str, &Option<_>)| {
        let time = time.as_ref();
        let at = from_wire(time)?;
        let distance = if at > now {
            format!("in {}", span(at.since(now)))
        } else {
            format!("{} ago", span(now.since(at)))
        };
        Some((name, format!("{} ({distance})", rfc3339_from_wire(time)?)))
    };
    times.into_iter().filter_map(shown).collect()
}

#[cfg(test)]
#[path = "job/tests.rs"]
mod tests;
