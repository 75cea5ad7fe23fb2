//! Dead letters: why they failed, and the history of their attempts.

use serde::Serialize;
use stoker_core::time::Timestamp;
use stoker_proto::v1;

use super::job::failure_line;
use super::table::{Column, left, or_dash, right, table};
use super::time::{from_wire, rfc3339_from_wire, span};

/// Longest error message in a row; `show` prints all of it.
const MAX_MESSAGE: usize = 80;

const COLUMNS: [Column; 5] =
    [left("ID"), left("MODEL"), right("ATTEMPTS"), right("FAILED"), left("WHY")];

/// A line for each dead letter.
pub(crate) fn rows(jobs: &[v1::Job], now: Timestamp) -> String {
    table(&COLUMNS, jobs.iter().map(|job| row(job, now)))
}

fn row(job: &v1::Job, now: Timestamp) -> Vec<String> {
    let ago = from_wire(job.finished_at.as_ref()).map(|at| format!("{} ago", span(now.since(at))));
    let why = job.failure.as_ref().map(|failure| failure_line(failure, Some(MAX_MESSAGE)));
    vec![
        job.id.clone(),
        job.model.clone(),
        job.attempts.to_string(),
        or_dash(ago.unwrap_or_default()),
        or_dash(why.unwrap_or_default()),
    ]
}

/// What became of one attempt, as a document.
#[derive(Debug, Serialize)]
pub(crate) struct AttemptDocument<'a> {
    attempt: u32,
    worker_id: &'a str,
    started_at: Option<String>,
    ended_at: Option<String>,
    outcome: &'a str,
    code: &'a str,
    message: &'a str,
}

/// One attempt for programs.
pub(crate) fn attempt(record: &v1::AttemptRecord) -> AttemptDocument<'_> {
    AttemptDocument {
        attempt: record.attempt,
        worker_id: &record.worker_id,
        started_at: rfc3339_from_wire(record.started_at.as_ref()),
        ended_at: rfc3339_from_wire(record.ended_at.as_ref()),
        outcome: &record.outcome,
        code: &record.code,
        message: &record.message,
    }
}

const ATTEMPT_COLUMNS: [Column; 6] =
    [right("ATTEMPT"), left("WORKER"), left("STARTED"), right("RAN"), left("OUTCOME"), left("WHY")];

/// A line for each attempt.
pub(crate) fn attempts(records: &[v1::AttemptRecord]) -> String {
    table(&ATTEMPT_COLUMNS, records.iter().map(attempt_row))
}

fn attempt_row(record: &v1::AttemptRecord) -> Vec<String> {
    let started = from_wire(record.started_at.as_ref());
    let ended = from_wire(record.ended_at.as_ref());
    let ran = started.zip(ended).map(|(started, ended)| span(ended.since(started)));
    let why: Vec<&str> = [record.code.as_str(), record.message.as_str()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    vec![
        record.attempt.to_string(),
        or_dash(record.worker_id.clone()),
        or_dash(rfc3339_from_wire(record.started_at.as_ref()).unwrap_or_default()),
        or_dash(ran.unwrap_or_default()),
        or_dash(record.outcome.clone()),
        or_dash(why.join(": ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::time::to_wire;

    #[test]
    fn the_history_has_a_line_for_each_attempt() {
        let at =
            |millis: i64| Some(to_wire(Timestamp::from_unix_millis(1_700_000_000_000 + millis)));
        let record = v1::AttemptRecord {
            attempt: 1,
            worker_id: "w1".into(),
            started_at: at(0),
            ended_at: at(1_500),
            outcome: "crashed".into(),
            code: "SIGSEGV".into(),
            message: String::new(),
        };
        assert_eq!(
            attempts(&[record]),
            "ATTEMPT  WORKER  STARTED                    RAN  OUTCOME  WHY\n      \
             1  w1      2023-11-14T22:13:20.000Z  1.5s  crashed  SIGSEGV\n"
        );
    }

    #[test]
    fn rows_say_why() {
        let job = v1::Job {
            id: "a".into(),
            model: "echo".into(),
            attempts: 3,
            failure: Some(v1::Failure {
                reason: v1::FailureReason::Poison as i32,
                code: "CRASH".into(),
                message: "the engine died".into(),
            }),
            ..v1::Job::default()
        };
        let text = rows(&[job], Timestamp::from_unix_millis(0));
        assert!(text.contains("poison: CRASH: the engine died"), "{text}");
    }
}
