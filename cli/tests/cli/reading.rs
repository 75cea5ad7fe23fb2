//! Looking at jobs, fetching results, operating the fleet.

use std::process::Stdio;

use stoker_proto::status::{self, Reason};
use stoker_proto::v1;
use stoker_proto::v1::result_part::Output;
use tonic::Status;

use crate::fake::{Fake, State, job, vectors};
use crate::process::{command, stoker_at};

fn jobs(count: u32) -> State {
    let jobs = (1..=count).map(|n| (format!("job-{n}"), job(&format!("job-{n}"), n))).collect();
    State { jobs, ..State::default() }
}

#[tokio::test]
async fn an_unknown_job_is_code_3() {
    let fake = Fake::start(State::default()).await;
    let run = stoker_at(&fake.url, &["get", "nope"]).await.expect(3);
    assert_eq!(run.err, "error: cannot get the job: no job `nope`\n");
}

#[tokio::test]
async fn a_job_is_shown_with_why_it_waits() {
    let fake = Fake::start(jobs(1)).await;
    let run = stoker_at(&fake.url, &["get", "job-1"]).await.expect(0);
    assert!(run.out().contains("state:        succeeded\n"), "{}", run.out());
    assert!(run.out().contains("waiting for:  a free slot\n"), "{}", run.out());
    let run = stoker_at(&fake.url, &["get", "job-1", "--output", "json"]).await.expect(0);
    assert_eq!(run.json()["id"], "job-1");
    assert_eq!(run.json()["waiting_for"], "a free slot");
}

#[tokio::test]
async fn the_tenant_travels_with_each_call() {
    let fake = Fake::start(jobs(1)).await;
    stoker_at(&fake.url, &["--tenant", "acme", "get", "job-1"]).await.expect(0);
    fake.with(|state| assert_eq!(state.tenant.as_deref(), Some("acme")));
    let run = stoker_at(&fake.url, &["--tenant", "no good", "get", "job-1"]).await.expect(2);
    assert!(run.err.contains("`no good` is not a valid tenant name"), "{}", run.err);
}

#[tokio::test]
async fn lists_go_through_all_pages() {
    let fake = Fake::start(jobs(5)).await;
    let run = stoker_at(&fake.url, &["list", "--all"]).await.expect(0);
    assert_eq!(run.out().lines().count(), 6, "{}", run.out());
    assert_eq!(run.err, "");
    let run = stoker_at(&fake.url, &["list", "--all", "-o", "json"]).await.expect(0);
    assert_eq!(run.json()["jobs"].as_array().unwrap().len(), 5);
    fake.with(|state| assert_eq!(state.requests.len(), 6));
}

#[tokio::test]
async fn a_list_says_when_there_is_more() {
    let fake = Fake::start(jobs(5)).await;
    let run = stoker_at(&fake.url, &["list", "--limit", "3"]).await.expect(0);
    assert_eq!(run.out().lines().count(), 4, "{}", run.out());
    assert!(run.err.contains("there are more"), "{}", run.err);
}

#[tokio::test]
async fn an_empty_list_is_still_a_document() {
    let fake = Fake::start(State::default()).await;
    let run = stoker_at(&fake.url, &["list", "-o", "json"]).await.expect(0);
    assert_eq!(run.json()["jobs"].as_array().unwrap().len(), 0);
    let run = stoker_at(&fake.url, &["list"]).await.expect(0);
    assert_eq!((run.out().as_str(), run.err.as_str()), ("", "no jobs\n"));
}

#[tokio::test]
async fn a_watch_tells_each_change_once_and_survives_a_restart() {
    let running = v1::Job { state: v1::JobState::Leased as i32, items_done: 1, ..job("job-1", 2) };
    let updates = vec![running.clone(), running];
    let fake = Fake::start(State { updates, ..jobs(1) }).await;
    let run = stoker_at(&fake.url, &["watch", "job-1"]).await.expect(0);
    assert_eq!(run.out(), "job-1  leased  1/2 items\njob-1  succeeded  1 items\n");

    // The stream ends while the job runs, then a call fails: the command asks again.
    let running = v1::Job { state: v1::JobState::Leased as i32, ..job("job-1", 1) };
    let fake =
        Fake::start(State { jobs: [("job-1".into(), running)].into(), ..State::default() }).await;
    let watch = stoker_at(&fake.url, &["watch", "job-1"]);
    let finish = async {
        while fake.with(|state| state.requests.len()) < 3 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let mut state = fake.state.lock().unwrap();
        state.failures.push_back(Status::unavailable("restarting"));
        state.jobs.insert("job-1".into(), job("job-1", 1));
    };
    let (run, ()) = tokio::join!(watch, finish);
    let run = run.expect(0);
    assert!(run.out().ends_with("job-1  succeeded  1 items\n"), "{}", run.out());
}

/// A job that generates, with what is told of it and its results.
fn tale(told: &[&str], result: &str) -> State {
    let state = v1::JobState::Leased as i32;
    let running = v1::Job { state, items_done: 0, ..job("job-1", 1) };
    let mut bytes_before = 0;
    let news = |text: &&str| {
        let piece = v1::TextPiece { item: 0, bytes_before, text: (*text).into(), ends: false };
        bytes_before += text.len() as u64;
        v1::TextNews { job_id: "job-1".into(), pieces: vec![piece] }
    };
    let texts = told.iter().map(news).collect();
    let finish = v1::FinishReason::Stop.into();
    let generation = v1::Generation { text: result.into(), finish, ..Default::default() };
    let output = Output::Generations(v1::Generations { generations: vec![generation] });
    let part = v1::ResultPart { first_item: 0, items: 1, output: Some(output) };
    let parts = [("job-1".to_owned(), vec![part])].into();
    State { updates: vec![running], texts, parts, ..jobs(1) }
}

#[tokio::test]
async fn a_watch_of_one_job_shows_its_texts_up_to_their_end() {
    let fake = Fake::start(tale(&["Once", " upon"], "Once upon a time")).await;
    let run = stoker_at(&fake.url, &["watch", "job-1"]).await.expect(0);
    let expected = "job-1  leased  0/1 items\nOnce upon a time\njob-1  succeeded  1 items\n";
    assert_eq!(run.out(), expected);

    let fake = Fake::start(tale(&["Once"], "Once")).await;
    let run = stoker_at(&fake.url, &["watch", "job-1", "-o", "json"]).await.expect(0);
    assert!(!run.out().contains("Once"), "states only: {}", run.out());
}

#[tokio::test]
async fn a_submission_shows_its_texts_as_they_come() {
    let state = State { jobs: [].into(), updates: vec![], ..tale(&["Once"], "Once upon a time") };
    let fake = Fake::start(state).await;
    let arguments = ["submit", "-m", "echo", "--task", "text-generation", "Tell me"];
    let run = stoker_at(&fake.url, &arguments).await.expect(0);
    assert!(run.out().starts_with("Once upon a time\nID     STATE"), "{}", run.out());
}

#[tokio::test]
async fn where_too_many_read_along_the_texts_come_with_the_results() {
    let later = std::time::Duration::from_secs(1);
    let full = status::exhausted(Reason::TooManyStreams, "128 streams are open", later);
    let failures = [full].into();
    let state = State { jobs: [].into(), updates: vec![], ..tale(&[], "Once upon a time") };
    let fake = Fake::start(State { answer_first: 1, failures, ..state }).await;
    let arguments = ["submit", "-m", "echo", "--task", "text-generation", "Tell me"];
    let run = stoker_at(&fake.url, &arguments).await.expect(0);
    assert!(run.out().starts_with("Once upon a time\nID     STATE"), "{}", run.out());
    assert!(run.err.contains("many others read along"), "{}", run.err);
    let watches = |state: &State| state.requests.iter().filter(|what| *what == "watch 1").count();
    assert_eq!(fake.with(watches), 2);
}

#[tokio::test]
async fn results_go_on_where_a_broken_stream_ended() {
    let parts = [("job-1".to_owned(), vec![vectors(0, 2), vectors(2, 1)])].into();
    let state = State { parts, break_results_after: Some(1), ..jobs(1) };
    let fake = Fake::start(state).await;
    let run = stoker_at(&fake.url, &["results", "job-1"]).await.expect(0);
    assert_eq!(run.out().lines().count(), 3, "{}", run.out());
    fake.with(|state| assert_eq!(state.requests, ["results job-1 0", "results job-1 2"]));
}

#[tokio::test]
async fn an_array_is_written_whole_and_numpy_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.npy");
    let parts = [
        ("job-3".to_owned(), vec![vectors(0, 2), vectors(2, 1)]),
        ("job-1".to_owned(), vec![vectors(0, 1)]),
    ];
    let fake = Fake::start(State { parts: parts.into(), ..jobs(3) }).await;
    let out = path.to_str().unwrap();
    let run =
        stoker_at(&fake.url, &["results", "job-3", "job-1", "--format", "npy", "--out", out]).await;
    assert_eq!(run.expect(0).out(), "");
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
    let header = String::from_utf8_lossy(&bytes[10..128]);
    assert!(header.contains("'shape': (4, 2)"), "{header}");
    assert_eq!(bytes.len(), 128 + 4 * 2 * 4);

    // To a pipe it is the same, byte for byte.
    let arguments = ["results", "job-3", "job-1", "--format", "npy"];
    assert_eq!(stoker_at(&fake.url, &arguments).await.expect(0).out, bytes);
}

#[tokio::test]
async fn an_array_that_is_not_whole_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.npy");
    let parts = [("job-3".to_owned(), vec![vectors(0, 2)])].into();
    let fake = Fake::start(State { parts, ..jobs(3) }).await;
    let out = path.to_str().unwrap();
    let arguments = ["results", "job-3", "--format", "npy", "--out", out];
    let run = stoker_at(&fake.url, &arguments).await.expect(1);
    assert!(run.err.contains("the jobs announced 3 items, but there are 2 results"), "{}", run.err);
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn results_of_a_job_that_did_not_succeed_are_refused() {
    let fake = Fake::start(jobs(1)).await;
    let run = stoker_at(&fake.url, &["results", "job-1"]).await.expect(5);
    assert_eq!(run.err, "error: cannot get the results: the job has not succeeded\n");
}

#[tokio::test]
async fn one_job_that_cannot_be_cancelled_does_not_keep_the_others() {
    let fake = Fake::start(jobs(2)).await;
    let run = stoker_at(&fake.url, &["cancel", "job-1", "nope", "job-2"]).await.expect(3);
    assert_eq!(run.out().lines().count(), 2, "{}", run.out());
    assert_eq!(run.err, "error: cannot cancel the job: no job `nope`\n");
}

#[tokio::test]
async fn a_retry_prints_the_new_id() {
    let fake = Fake::start(jobs(1)).await;
    assert_eq!(stoker_at(&fake.url, &["retry", "job-1"]).await.expect(0).out(), "job-new\n");
}

#[tokio::test]
async fn the_status_shows_jobs_queues_and_workers() {
    let fake = Fake::start(jobs(2)).await;
    let run = stoker_at(&fake.url, &["status"]).await.expect(0);
    for expected in ["2 succeeded", "no ready worker serves it", "w1  ready"] {
        assert!(run.out().contains(expected), "{expected}: {}", run.out());
    }
    let run = stoker_at(&fake.url, &["status", "-o", "json"]).await.expect(0);
    assert_eq!(run.json()["jobs"]["succeeded"], 2);
    assert_eq!(run.json()["queues"][0]["queued"], 3);
    assert_eq!(run.json()["workers"][0]["id"], "w1");
}

#[tokio::test]
async fn workers_are_cordoned_and_drained() {
    let fake = Fake::start(State::default()).await;
    for arguments in [
        &["workers"][..],
        &["workers", "cordon", "w1"],
        &["workers", "cordon", "w1", "--undo"],
        &["workers", "drain", "w1", "--within", "60s"],
    ] {
        let run = stoker_at(&fake.url, arguments).await.expect(0);
        assert!(run.out().contains("w1  ready"), "{}", run.out());
    }
    fake.with(|state| {
        let expected = ["workers", "cordon w1 true", "cordon w1 false", "drain w1 Some(60)"];
        assert_eq!(state.requests, expected);
    });
}

#[tokio::test]
async fn dead_letters_are_dropped_only_when_that_was_meant() {
    let fake = Fake::start(jobs(2)).await;
    for arguments in [
        &["dead-letters", "discard", "job-1"][..],
        &["dead-letters", "discard", "--all"],
        &["dead-letters", "redrive", "--all"],
    ] {
        let run = stoker_at(&fake.url, arguments).await.expect(2);
        assert!(run.err.contains("add --yes"), "{}", run.err);
    }
    fake.with(|state| {
        assert!(
            !state.requests.iter().any(|r| r.starts_with("discard") || r.starts_with("redrive"))
        );
    });
    let run = stoker_at(&fake.url, &["dead-letters", "discard", "job-1", "--yes"]).await.expect(0);
    assert_eq!(run.out(), "discarded 1 dead letter\n");
    let run = stoker_at(&fake.url, &["dead-letters", "redrive", "--all", "--yes"]).await.expect(0);
    assert_eq!(run.out(), "new-job-1\nnew-job-2\n");
}

#[tokio::test]
async fn dead_letters_are_listed_and_shown_with_their_history() {
    let fake = Fake::start(jobs(1)).await;
    let run = stoker_at(&fake.url, &["dlq", "list", "--reason", "poison"]).await.expect(0);
    assert!(run.out().contains("job-1"), "{}", run.out());
    let run = stoker_at(&fake.url, &["dead-letters", "show", "job-1"]).await.expect(0);
    assert!(run.out().contains("crashed"), "{}", run.out());
    fake.with(|state| assert_eq!(state.requests[0], "dead letters 3"));
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_code_6() {
    // Accepts the connection and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let run = stoker_at(&url, &["--timeout", "300ms", "list"]).await.expect(6);
    assert!(run.err.contains("did not answer within 300ms"), "{}", run.err);
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_reason_to_complain() {
    let fake = Fake::start(jobs(1)).await;
    let mut child =
        command(&["--server", &fake.url, "get", "job-1"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(141));
}

#[tokio::test]
async fn the_version_names_both_sides() {
    let fake = Fake::start(State::default()).await;
    let run = stoker_at(&fake.url, &["version"]).await.expect(0);
    assert!(run.out().contains("coordinator:  9.9.9"), "{}", run.out());
    let run = stoker_at("http://127.0.0.1:1", &["version"]).await.expect(0);
    assert!(run.err.contains("no coordinator answers"), "{}", run.err);
}

#[tokio::test]
async fn models_are_listed_with_what_they_do() {
    let fake = Fake::start(State::default()).await;
    let run = stoker_at(&fake.url, &["models"]).await.expect(0);
    assert!(run.out().contains("\nmini    text-embedding  default\n"), "{}", run.out());
    let run = stoker_at(&fake.url, &["models", "-o", "json"]).await.expect(0);
    assert_eq!(run.json()["models"][0]["task"], "echo");
}

#[tokio::test]
async fn a_filter_without_all_is_not_silently_ignored() {
    let fake = Fake::start(jobs(1)).await;
    let arguments = ["dead-letters", "redrive", "job-1", "--model", "echo"];
    let run = stoker_at(&fake.url, &arguments).await.expect(2);
    assert!(run.err.contains("redrive --all"), "{}", run.err);
    fake.with(|state| assert!(state.requests.is_empty()));
}
