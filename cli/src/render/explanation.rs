//! An explained job: a page for people, a document for programs.

use serde::Serialize;
use stoker_core::time::Timestamp;
use stoker_proto::v1;

use super::dead_letter::{self, AttemptDocument};
use super::job::{self, JobDocument};
use super::state::job_state;
use super::table::{Column, left, or_dash, pairs, right, table};
use super::text::count;
use super::time::{from_wire, rfc3339, rfc3339_from_wire, span};
use super::worker;
use crate::explanation::{Facts, Verdict};

const SHARE_COLUMNS: [Column; 6] = [
    left("TENANT"),
    left("CLASS"),
    right("WEIGHT"),
    right("QUEUED"),
    right("IN FLIGHT"),
    right("TENANT'S AHEAD"),
];

/// The verdict, then all that it is made of.
pub(crate) fn page(facts: &Facts<'_>, verdict: &Verdict) -> String {
    let mut text = format!("{}\n", super::text::clean(&verdict.text));
    if let Some(advice) = &verdict.advice {
        text.push_str(&super::text::clean(advice));
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&pairs(facts_of(facts)));
    if let Some(queue) = &facts.answer.queue {
        if !queue.shares.is_empty() {
            text.push_str("\nIts queue:\n");
            text.push_str(&table(&SHARE_COLUMNS, shares(queue)));
        }
        let serving: Vec<v1::Worker> = facts.serving().cloned().collect();
        if !serving.is_empty() {
            text.push_str("\nWorkers that serve its model:\n");
            text.push_str(&worker::rows(&serving, facts.now));
        }
    }
    if !facts.answer.attempts.is_empty() {
        text.push_str("\nIts attempts:\n");
        text.push_str(&dead_letter::attempts(&facts.answer.attempts));
    }
    text
}

fn shares(queue: &v1::JobQueue) -> impl Iterator<Item = Vec<String>> + '_ {
    queue.shares.iter().map(|share| {
        let ahead = queue.ahead.iter().find(|ahead| ahead.tenant == share.tenant);
        vec![
            share.tenant.clone(),
            share.class.clone(),
            share.weight.to_string(),
            share.queued.to_string(),
            share.in_flight.to_string(),
            or_dash(ahead.map(|ahead| ahead.jobs.to_string()).unwrap_or_default()),
        ]
    })
}

fn facts_of(facts: &Facts<'_>) -> Vec<(&'static str, String)> {
    let (job, answer) = (facts.job, facts.answer);
    let when = |time: Option<&_>| {
        let at = from_wire(time)?;
        Some(format!("{} ({})", rfc3339(at)?, distance(at, facts.now)))
    };
    let lines = [
        ("job", Some(job.id.clone())),
        ("state", Some(job_state(job.state))),
        ("model", Some(format!("{} in the pool {}", job.model, job.pool))),
        ("class", Some(format!("{} of the tenant {}", job.class, job.tenant))),
        ("accepted", when(job.accepted_at.as_ref())),
        ("to start by", when(answer.start_by.as_ref())),
        ("first started", when(job.started_at.as_ref())),
        ("finished", when(job.finished_at.as_ref())),
        (timer(facts), when(answer.next_due.as_ref())),
        ("deadline", when(job.deadline_at.as_ref())),
        ("released", (job.dispatches > 0).then(|| count(job.dispatches.into(), "time"))),
        ("budgets", Some(budgets(facts))),
        ("retry of", (!job.retry_of.is_empty()).then(|| job.retry_of.clone())),
        ("retried as", (!job.retried_as.is_empty()).then(|| job.retried_as.clone())),
    ];
    lines.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn budgets(facts: &Facts<'_>) -> String {
    let (job, limit) = (facts.job, facts.answer);
    format!(
        "{}/{} failures, {}/{} crashes, {}/{} lost workers, {} interruptions",
        job.failures,
        limit.max_failures,
        job.crashes,
        limit.max_crashes,
        job.lost_workers,
        limit.max_lost_workers,
        job.interruptions
    )
}

/// What the job's next timer does.
fn timer(facts: &Facts<'_>) -> &'static str {
    let job = facts.job;
    if facts.answer.next_due == job.deadline_at {
        return "expires";
    }
    match v1::JobState::try_from(job.state) {
        Ok(v1::JobState::Dispatched) => "sent again",
        Ok(v1::JobState::Leased) if job.cancel_requested => "revoked",
        Ok(v1::JobState::Leased) => "lease ends",
        Ok(v1::JobState::RetryWait) => "next attempt",
        Ok(
            v1::JobState::Unspecified
            | v1::JobState::Queued
            | v1::JobState::Succeeded
            | v1::JobState::Failed
            | v1::JobState::Cancelled
            | v1::JobState::Expired,
        )
        | Err(_) => "next timer",
    }
}

fn distance(at: Timestamp, now: Timestamp) -> String {
    if at > now {
        format!("in {}", span(at.since(now)))
    } else {
        format!("{} ago", span(now.since(at)))
    }
}

/// An explained job as a document. Fields are only ever added.
#[derive(Debug, Serialize)]
pub(crate) struct ExplanationDocument<'a> {
    cause: &'static str,
    verdict: &'a str,
    advice: Option<&'a str>,
    job: JobDocument<'a>,
    start_by: Option<String>,
    next_due: Option<String>,
    queue: Option<QueueDocument<'a>>,
    attempts: Vec<AttemptDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct QueueDocument<'a> {
    slots: u32,
    workers_starting: u32,
    window: u32,
    in_flight: u64,
    broker_problem: Option<&'a str>,
    ahead: u64,
    ahead_at_least: bool,
    shares: Vec<ShareDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct ShareDocument<'a> {
    tenant: &'a str,
    class: &'a str,
    weight: u32,
    queued: u64,
    in_flight: u64,
}

/// The explanation for programs.
pub(crate) fn document<'a>(facts: &Facts<'a>, verdict: &'a Verdict) -> ExplanationDocument<'a> {
    let answer = facts.answer;
    ExplanationDocument {
        cause: verdict.cause,
        verdict: &verdict.text,
        advice: verdict.advice.as_deref(),
        job: job::document(facts.job),
        start_by: rfc3339_from_wire(answer.start_by.as_ref()),
        next_due: rfc3339_from_wire(answer.next_due.as_ref()),
        queue: answer.queue.as_ref().map(queue),
        attempts: answer.attempts.iter().map(dead_letter::attempt).collect(),
    }
}

fn queue(queue: &v1::JobQueue) -> QueueDocument<'_> {
    QueueDocument {
        slots: queue.slots,
        workers_starting: queue.workers_starting,
        window: queue.window,
        in_flight: queue.in_flight,
        broker_problem: (!queue.broker_problem.is_empty()).then_some(&queue.broker_problem),
        ahead: queue.ahead.iter().map(|ahead| u64::from(ahead.jobs)).sum(),
        ahead_at_least: queue.ahead_at_least,
        shares: queue
            .shares
            .iter()
            .map(|share| ShareDocument {
                tenant: &share.tenant,
                class: &share.class,
                weight: share.weight,
                queued: share.queued,
                in_flight: share.in_flight,
            })
            .collect(),
    }
}
