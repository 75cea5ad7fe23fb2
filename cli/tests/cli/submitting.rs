//! Handing work over and waiting for it.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use stoker_proto::{convert, v1};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::fake::{Fake, State, job, vectors};
use crate::process::{command, stoker, stoker_at, stoker_with_input};

fn texts(spec: &v1::JobSpec) -> Vec<String> {
    match convert::into_parts(spec.input.clone().unwrap()).unwrap() {
        convert::InputParts::Texts(_, texts) => texts,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn without_waiting_only_ids_are_printed() {
    let fake = Fake::start(State::default()).await;
    let run = stoker_at(
        &fake.url,
        &["submit", "-m", "echo", "--no-wait", "--split", "1", "-l", "k=v", "a", "b"],
    )
    .await
    .expect(0);
    assert_eq!(run.out(), "job-1\njob-2\n");
    assert_eq!(run.err, "");
    fake.with(|state| {
        assert_eq!(state.requests, ["submit"]);
        assert_eq!(texts(&state.specs[1]), ["b"]);
        assert_eq!(state.specs[0].labels["k"], "v");
        assert_ne!(state.specs[0].idempotency_key, state.specs[1].idempotency_key);
    });
}

#[tokio::test]
async fn a_call_that_is_tried_again_has_the_same_key() {
    let failures = [Status::unavailable("starting"), Status::unavailable("starting")].into();
    let fake = Fake::start(State { failures, ..State::default() }).await;
    let run = stoker_at(&fake.url, &["submit", "-m", "echo", "--no-wait", "a"]).await.expect(0);
    assert_eq!(run.out(), "job-1\n");
    assert!(run.err.contains("is unavailable; trying again"), "{}", run.err);
    fake.with(|state| {
        assert_eq!(state.keys.len(), 3);
        assert!(state.keys.iter().all(|key| *key == state.keys[0] && !key.is_empty()));
    });
}

#[tokio::test]
async fn an_own_key_is_sent_and_a_repetition_is_said() {
    let fake = Fake::start(State::default()).await;
    let arguments = ["submit", "-m", "echo", "--no-wait", "--idempotency-key", "mine", "a"];
    stoker_at(&fake.url, &arguments).await.expect(0);
    let run = stoker_at(&fake.url, &arguments).await.expect(0);
    assert_eq!(run.err, "1 job had been submitted before with this key\n");
    fake.with(|state| assert_eq!(state.keys, ["mine", "mine"]));
}

#[tokio::test]
async fn field_violations_are_shown_line_by_line() {
    let violations = vec![
        FieldViolation::new("jobs[0].model", "unknown model `x`; there are: echo"),
        FieldViolation::new("jobs[0].class", "unknown class `y`; there are: standard"),
    ];
    let details = ErrorDetails::with_bad_request(violations);
    let refusal =
        Status::with_error_details(Code::InvalidArgument, "the job is not valid", details);
    let fake = Fake::start(State { failures: [refusal].into(), ..State::default() }).await;
    let run = stoker_at(&fake.url, &["submit", "-m", "x", "-c", "y", "a"]).await.expect(5);
    assert_eq!(run.out(), "");
    assert_eq!(
        run.err,
        "error: cannot submit the jobs: the job is not valid\n  \
         jobs[0].model: unknown model `x`; there are: echo\n  \
         jobs[0].class: unknown class `y`; there are: standard\n"
    );
}

#[tokio::test]
async fn waiting_ends_with_a_summary() {
    let fake = Fake::start(State::default()).await;
    let run = stoker_at(&fake.url, &["submit", "-m", "echo", "a"]).await.expect(0);
    assert!(run.out().starts_with("ID     STATE      MODEL"), "{}", run.out());
    assert!(run.out().contains("\njob-1  succeeded  echo"), "{}", run.out());

    let run = stoker_at(&fake.url, &["-o", "json", "submit", "-m", "echo", "a"]).await.expect(0);
    assert_eq!(run.json()["jobs"][0]["state"], "succeeded");
}

#[tokio::test]
async fn waiting_can_end_with_the_results() {
    let parts = [("job-1".to_owned(), vec![vectors(0, 2)])].into();
    let fake = Fake::start(State { parts, ..State::default() }).await;
    let run =
        stoker_at(&fake.url, &["submit", "-m", "mini", "--results", "a", "b"]).await.expect(0);
    assert_eq!(
        run.out(),
        "{\"job\":\"job-1\",\"item\":0,\"embedding\":[0.0,0.0]}\n\
         {\"job\":\"job-1\",\"item\":1,\"embedding\":[1.0,0.5]}\n"
    );
    fake.with(|state| {
        let input = state.specs[0].input.clone().unwrap().task.unwrap();
        assert!(matches!(input, v1::job_input::Task::TextEmbedding(_)));
    });
}

#[tokio::test]
async fn a_prompt_is_for_embeddings() {
    let fake = Fake::start(State::default()).await;
    let submit = |model| ["submit", "--no-wait", "--prompt", "query", "-m", model, "a"];
    stoker_at(&fake.url, &submit("mini")).await.expect(0);
    let refused = stoker_at(&fake.url, &submit("echo")).await.expect(2);
    assert!(refused.err.contains("`--prompt` is for embeddings, not for echo"));
    fake.with(|state| {
        let inputs = state.specs.iter().filter_map(|spec| spec.input.as_ref());
        assert_eq!(inputs.map(convert::input_prompt).collect::<Vec<_>>(), ["query"]);
    });
}

#[tokio::test]
async fn recordings_are_files_and_only_for_models_that_listen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memo.wav");
    std::fs::write(&path, b"RIFF\0\xff").unwrap();
    let file = path.to_str().unwrap();
    let fake = Fake::start(State::default()).await;
    let listening = ["submit", "-m", "echo", "--task", "speech-to-text", "--no-wait"];
    let arguments =
        [&listening[..], &["--audio", file, "--audio", file, "--language", "de"]].concat();
    stoker_at(&fake.url, &arguments).await.expect(0);
    fake.with(|state| {
        let input = state.specs[0].input.clone().unwrap();
        let convert::InputParts::Speech(input) = convert::into_parts(input).unwrap() else {
            panic!("another task")
        };
        assert_eq!(input.recordings, [&b"RIFF\0\xff"[..]; 2]);
        assert_eq!(input.options.unwrap().language, "de");
    });
    let run = stoker_at(&fake.url, &[&listening[..], &["a"]].concat()).await.expect(2);
    assert!(run.err.contains("takes recordings, not texts"), "{}", run.err);
    let run = stoker_at(&fake.url, &["submit", "-m", "mini", "--audio", file]).await.expect(2);
    assert!(run.err.contains("are not for text-embedding"), "{}", run.err);
}

#[tokio::test]
async fn captions_have_options_that_are_for_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photo.png");
    std::fs::write(&path, b"\x89PNG\xff").unwrap();
    let file = path.to_str().unwrap();
    let fake = Fake::start(State::default()).await;
    let submit = ["submit", "-m", "echo", "--no-wait", "--task", "image-captioning", file];
    let options = ["--begin-with", "a picture of", "--max-tokens", "9"];
    stoker_at(&fake.url, &[&submit[..], &options].concat()).await.expect(0);
    fake.with(|state| {
        let input = state.specs[0].input.clone().unwrap();
        let convert::InputParts::ImageCaptioning(input) = convert::into_parts(input).unwrap()
        else {
            panic!("another task")
        };
        assert_eq!((input.prompt.as_str(), input.max_tokens), ("a picture of", 9));
        assert_eq!(input.images, [&b"\x89PNG\xff"[..]]);
    });
    for (option, part) in [
        (["--temperature", "1"], "options of generating text are not for image-captioning"),
        (["--candidate", "cat"], "labels to compare with are not for image-captioning"),
    ] {
        let run = stoker_at(&fake.url, &[&submit[..], &option].concat()).await.expect(2);
        assert!(run.err.contains(part), "{}", run.err);
    }
    let other = ["submit", "-m", "mini", "--begin-with", "a", "b"];
    let run = stoker_at(&fake.url, &other).await.expect(2);
    assert!(run.err.contains("options of captioning images are not for"), "{}", run.err);
}

#[tokio::test]
async fn faces_have_options_that_are_for_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photo.png");
    std::fs::write(&path, b"\x89PNG\xff").unwrap();
    let file = path.to_str().unwrap();
    let fake = Fake::start(State::default()).await;
    let options = ["--smallest-face", "40", "--max-faces", "3"];
    for task in ["face-detection", "face-embedding"] {
        let submit = ["submit", "-m", "echo", "--no-wait", "--task", task, file];
        stoker_at(&fake.url, &[&submit[..], &options].concat()).await.expect(0);
    }
    fake.with(|state| {
        for spec in &state.specs {
            let input = spec.input.clone().unwrap();
            let convert::InputParts::Faces(_, images, options) =
                convert::into_parts(input).unwrap()
            else {
                panic!("another task")
            };
            assert_eq!((options.smallest_face, options.max_faces), (40, 3));
            assert_eq!(images, [&b"\x89PNG\xff"[..]]);
        }
        assert_eq!(state.specs.len(), 2);
    });
    let other = ["submit", "-m", "mini", "--max-faces", "3", "a"];
    let run = stoker_at(&fake.url, &other).await.expect(2);
    assert!(run.err.contains("options of finding faces are not for"), "{}", run.err);
}

#[tokio::test]
async fn the_fleet_says_what_a_model_does_and_an_argument_overrides_it() {
    use v1::job_input::Task;
    let fake = Fake::start(State::default()).await;
    let submit = ["submit", "--no-wait", "-m"];
    stoker_at(&fake.url, &[&submit[..], &["parrot", "a"]].concat()).await.expect(0);
    for task in ["text-embedding", "text-classification"] {
        let other = ["parrot", "--task", task, "a"];
        stoker_at(&fake.url, &[&submit[..], &other].concat()).await.expect(0);
    }
    fake.with(|state| {
        let task = |index: usize| state.specs[index].input.clone().unwrap().task.unwrap();
        assert!(matches!(task(0), Task::Echo(_)));
        assert!(matches!(task(1), Task::TextEmbedding(_)));
        assert!(matches!(task(2), Task::TextClassification(_)));
    });
}

#[tokio::test]
async fn a_job_that_fails_is_named_and_the_exit_code_says_so() {
    let failed = v1::Job {
        state: v1::JobState::Failed as i32,
        items_done: 0,
        failure: Some(v1::Failure {
            reason: v1::FailureReason::Poison as i32,
            code: "CRASH".into(),
            message: "the engine died".into(),
        }),
        ..job("job-1", 1)
    };
    let jobs = [("job-1".to_owned(), failed)].into();
    let fake = Fake::start(State { jobs, ..State::default() }).await;
    let run = stoker_at(&fake.url, &["submit", "-m", "echo", "a"]).await.expect(1);
    assert!(run.out().contains("job-1  failed"), "{}", run.out());
    assert!(
        run.err.ends_with(
            "error: 1 of 1 job did not succeed\n  \
             job-1  failed  0/1 items  poison: CRASH: the engine died\n"
        ),
        "{}",
        run.err
    );
}

#[tokio::test]
async fn progress_is_told_where_no_terminal_is() {
    let updates = (0..=10)
        .map(|done| v1::Job {
            state: v1::JobState::Leased as i32,
            items_done: done,
            ..job("job-1", 10)
        })
        .collect();
    let jobs = [("job-1".to_owned(), job("job-1", 10))].into();
    let fake = Fake::start(State { jobs, updates, ..State::default() }).await;
    let input = "x\n".repeat(10);
    let arguments = ["--server", &fake.url, "submit", "-m", "echo", "-"];
    let run = stoker_with_input(&arguments, input.as_bytes()).await.expect(0);
    assert!(run.err.contains("5/10 items, 0/1 jobs\n"), "{}", run.err);
    assert_eq!(run.err.lines().count(), 10, "{}", run.err);
}

#[tokio::test]
async fn a_wait_that_is_too_long_leaves_the_job_alone() {
    let running = v1::Job { state: v1::JobState::Leased as i32, ..job("job-1", 1) };
    let jobs = [("job-1".to_owned(), running)].into();
    let fake = Fake::start(State { jobs, watch_for_ever: true, ..State::default() }).await;
    let arguments = ["submit", "-m", "echo", "--wait-timeout", "200ms", "a"];
    let run = stoker_at(&fake.url, &arguments).await.expect(6);
    assert!(
        run.err.contains("error: the wait timed out; 1 job went on in the fleet"),
        "{}",
        run.err
    );
    assert!(run.err.contains("stoker watch job-1"), "{}", run.err);
    assert_eq!(run.out(), "job-1\n");
    fake.with(|state| assert!(!state.requests.iter().any(|request| request.starts_with("cancel"))));
}

#[tokio::test]
async fn ctrl_c_leaves_the_job_alone_and_says_how_to_go_on() {
    let running = v1::Job { state: v1::JobState::Leased as i32, ..job("job-1", 1) };
    let jobs = [("job-1".to_owned(), running)].into();
    let fake = Fake::start(State { jobs, watch_for_ever: true, ..State::default() }).await;
    let child = command(&["--server", &fake.url, "submit", "-m", "echo", "a"]).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    // From the watch on, Ctrl-C is the command's own business.
    let watching = async {
        while !fake.with(|state| state.requests.iter().any(|request| request == "watch 1")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), watching).await.expect("no watch was opened");
    kill_process(pid, Signal::INT).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await;
    let output = ended.expect("it goes on").unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.contains("interrupted; 1 job went on in the fleet"), "{err}");
    assert!(err.contains("cancel: stoker cancel job-1"), "{err}");
}

#[tokio::test]
async fn empty_lines_are_skipped_and_counted() {
    let fake = Fake::start(State::default()).await;
    let arguments = ["--server", &fake.url, "submit", "-m", "echo", "--no-wait"];
    let run = stoker_with_input(&arguments, b"a\n\n \nb\r\n").await.expect(0);
    assert_eq!(run.err, "skipped 2 empty lines\n");
    fake.with(|state| assert_eq!(texts(&state.specs[0]), ["a", "b"]));
}

#[tokio::test]
async fn json_lines_can_group_texts_into_jobs() {
    let fake = Fake::start(State::default()).await;
    let arguments = ["--server", &fake.url, "submit", "-m", "echo", "--no-wait", "--jsonl", "-"];
    let input = br#""a"
{"text":"b"}
{"texts":["c","d"],"labels":{"k":"v"}}
"#;
    let run = stoker_with_input(&arguments, input).await.expect(0);
    assert_eq!(run.out(), "job-1\njob-2\n");
    fake.with(|state| {
        assert_eq!(texts(&state.specs[0]), ["a", "b"]);
        assert_eq!(texts(&state.specs[1]), ["c", "d"]);
        assert_eq!(state.specs[1].labels["k"], "v");
    });
}

#[tokio::test]
async fn input_that_cannot_be_used_reaches_no_coordinator() {
    for (arguments, input, expected) in [
        (&["-"][..], &b"ok\nb\xffd\n"[..], "standard input:2: not UTF-8 text at byte 4"),
        (&["-"], b"", "standard input is empty"),
        (&["-"], b"\n\n", "standard input has no text: every line is empty"),
        (&["--jsonl", "-"], b"\"a\"\n{x\n", "standard input:2:2: not JSON"),
        (&["--file", "none.txt"], b"", "cannot read none.txt: there is no such file"),
        (&["a", ""], b"", "text 2 is empty"),
    ] {
        // Nothing listens there: a call would end with another code.
        let start = ["--server", "http://127.0.0.1:1", "submit", "-m", "echo"];
        let run = stoker_with_input(&[&start, arguments].concat(), input).await.expect(2);
        assert!(run.err.contains(expected), "{expected}: {}", run.err);
    }
}

#[tokio::test]
async fn nobody_there_is_code_4_with_a_remedy() {
    let run = stoker(&["--server", "http://127.0.0.1:1", "list"]).await.expect(4);
    assert_eq!(
        run.err,
        "error: cannot reach the coordinator at http://127.0.0.1:1: Connection refused (os error 111)\n  \
         start a fleet on this machine with `stoker dev`, or name another with --server\n"
    );
}

#[tokio::test]
async fn texts_name_files_to_a_model_that_looks_at_images() {
    let folder = tempfile::tempdir().unwrap();
    let name = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(name("a.png"), b"first \xff").unwrap();
    std::fs::write(name("b.png"), b"second").unwrap();
    let fake = Fake::start(State::default()).await;
    let (a, b) = (name("a.png"), name("b.png"));
    let task = ["submit", "-m", "clip", "--no-wait", "--task", "image-classification"];
    let question = ["--candidate", "cat", "--candidate", "dog", "--template", "a {}"];
    let arguments = [&task[..], &question, &[&a, &b]].concat();
    stoker_at(&fake.url, &arguments).await.expect(0);
    fake.with(|state| {
        let input = convert::into_parts(state.specs[0].input.clone().unwrap()).unwrap();
        let convert::InputParts::ImageClassification(input) = input else { panic!("{input:?}") };
        let images: Vec<&[u8]> = input.images.iter().map(AsRef::as_ref).collect();
        assert_eq!(images, [b"first \xff".as_slice(), b"second"]);
        assert_eq!((input.labels.join(" "), input.template.as_str()), ("cat dog".into(), "a {}"));
    });
}

#[tokio::test]
async fn an_image_that_is_not_there_and_labels_for_nobody_are_usage_errors() {
    let fake = Fake::start(State::default()).await;
    let arguments = ["submit", "-m", "clip", "--task", "image-embedding", "none.png"];
    let run = stoker_at(&fake.url, &arguments).await.expect(2);
    assert!(run.err.contains("cannot read none.png: there is no such file"), "{}", run.err);
    assert!(run.err.contains("is the name of an image's file"), "{}", run.err);
    let arguments = ["submit", "-m", "echo", "--candidate", "cat", "a"];
    let run = stoker_at(&fake.url, &arguments).await.expect(2);
    assert!(run.err.contains("labels to compare with are not for echo"), "{}", run.err);
    fake.with(|state| assert!(state.specs.is_empty()));
}
