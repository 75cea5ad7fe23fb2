//! Golden text of one finished and one troubled job.

use stoker_core::time::Timestamp;
use stoker_proto::v1;

use super::*;
use crate::render::time::to_wire;

const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_100_000);

fn finished() -> v1::Job {
    let at = |millis: i64| Some(to_wire(Timestamp::from_unix_millis(1_700_000_000_000 + millis)));
    v1::Job {
        id: "018b-a".into(),
        tenant: "default".into(),
        class: "batch".into(),
        pool: "default".into(),
        model: "echo".into(),
        state: v1::JobState::Succeeded as i32,
        attempts: 2,
        lost_workers: 1,
        items_total: 500,
        items_done: 500,
        accepted_at: at(0),
        started_at: at(250),
        finished_at: at(13_000),
        labels: [("run".to_owned(), "7".to_owned())].into(),
        input_bytes: 12_345,
        result_bytes: 768_000,
        dispatches: 2,
        ..v1::Job::default()
    }
}

fn failed() -> v1::Job {
    v1::Job {
        id: "018b-b".into(),
        model: "echo".into(),
        state: v1::JobState::Failed as i32,
        attempts: 3,
        failures: 3,
        items_total: 500,
        items_done: 120,
        accepted_at: Some(to_wire(Timestamp::from_unix_millis(1_700_000_000_000))),
        failure: Some(v1::Failure {
            reason: v1::FailureReason::RetriesExhausted as i32,
            code: "OUT_OF_MEMORY".into(),
            message: "no memory\x1b[2J left".into(),
        }),
        ..v1::Job::default()
    }
}

#[test]
fn rows_line_up() {
    assert_eq!(
        rows(&[finished(), failed()], NOW),
        "ID      STATE      MODEL  CLASS    ITEMS  ATTEMPTS    AGE   WAIT  RUN\n\
         018b-a  succeeded  echo   batch      500         2  1m40s  250ms  12s\n\
         018b-b  failed     echo   -      120/500         3  1m40s      -    -\n"
    );
    assert_eq!(more_rows(&[finished()], NOW).lines().count(), 1);
}

#[test]
fn details_show_what_is_set() {
    assert_eq!(
        details(&finished(), "", NOW),
        "id:        018b-a\n\
         state:     succeeded\n\
         model:     echo\n\
         class:     batch\n\
         pool:      default\n\
         tenant:    default\n\
         items:     500\n\
         attempts:  2 (1 lost with their worker)\n\
         accepted:  2023-11-14T22:13:20.000Z (1m40s ago)\n\
         started:   2023-11-14T22:13:20.250Z (1m39s ago)\n\
         finished:  2023-11-14T22:13:33.000Z (1m27s ago)\n\
         wait:      250ms\n\
         run:       12s\n\
         input:     12,345 bytes\n\
         result:    768,000 bytes\n\
         labels:    run=7\n"
    );
}

#[test]
fn a_failure_names_reason_code_and_message_and_cannot_control_the_terminal() {
    let text = details(&failed(), "", NOW);
    let line = "failure:   retries_exhausted: OUT_OF_MEMORY: no memory\\x1b[2J left\n";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("attempts:  3 (3 failed)\n"), "{text}");
}

#[test]
fn the_document_has_null_for_what_is_not_known() {
    let failed = failed();
    let value = serde_json::to_value(document(&failed)).unwrap();
    assert_eq!(value["state"], "failed");
    assert_eq!(value["started_at"], serde_json::Value::Null);
    assert_eq!(value["worker_id"], serde_json::Value::Null);
    assert_eq!(value["failure"]["reason"], "retries_exhausted");
    assert_eq!(value["accepted_at"], "2023-11-14T22:13:20.000Z");

    let finished = finished();
    let value = serde_json::to_value(document(&finished)).unwrap();
    assert_eq!(value["wait_seconds"], 0.25);
    assert_eq!(value["run_seconds"], 12.75);
    assert_eq!(value["labels"]["run"], "7");
    assert_eq!(value["failure"], serde_json::Value::Null);
}
