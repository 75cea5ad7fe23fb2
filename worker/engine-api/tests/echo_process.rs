//! The echo engine as a process, over pipes.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use stoker_engine_api::{
    FrameReader, FrameWriter, FromEngine, ItemInput, ItemKey, ItemOutput, PROTOCOL_VERSION,
    TaskKind, ToEngine,
};

type Requests = FrameWriter<ToEngine, ChildStdin>;
type Answers = FrameReader<FromEngine, ChildStdout>;

fn start(arguments: &[&str]) -> (Child, Requests, Answers) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_stoker-engine-echo"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let requests = FrameWriter::new(child.stdin.take().unwrap());
    let mut answers = FrameReader::new(child.stdout.take().unwrap());
    let hello = answers.read().unwrap();
    assert_eq!(hello, Some(FromEngine::Hello { protocol: PROTOCOL_VERSION }));
    (child, requests, answers)
}

#[test]
fn texts_come_back() {
    let (mut child, mut requests, mut answers) =
        start(&["--model", "noop", "--delay", "1ms", "--lanes=2"]);
    let Some(FromEngine::Ready(info)) = answers.read().unwrap() else { panic!("not ready") };
    assert_eq!((info.model.as_str(), info.task, info.lanes), ("noop", TaskKind::Echo, 2));

    let texts = ["", "héllo", "eight by"].map(|text| ItemInput::Text(text.to_owned()));
    let items = (0..).map(ItemKey).zip(texts).collect();
    requests.write(&ToEngine::Prepare { items }).unwrap();
    let Some(FromEngine::Prepared { items }) = answers.read().unwrap() else {
        panic!("not prepared")
    };
    assert_eq!(items, [(ItemKey(0), Ok(1)), (ItemKey(1), Ok(2)), (ItemKey(2), Ok(3))]);

    requests.write(&ToEngine::Run { batch: 5, items: vec![ItemKey(1), ItemKey(0)] }).unwrap();
    let Some(FromEngine::Done { batch: 5, outputs, busy_micros }) = answers.read().unwrap() else {
        panic!("not done")
    };
    let texts = ["héllo", ""].map(|text| ItemOutput::Text(text.to_owned()));
    assert_eq!(outputs, texts);
    assert!(busy_micros >= 2_000, "two items at 1 ms took {busy_micros} us");

    drop(requests);
    assert!(answers.read().unwrap().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn wrong_argument_is_fatal_and_names_it() {
    let (mut child, _requests, mut answers) = start(&["--model", "noop", "--delay", "soon"]);
    let Some(FromEngine::Fatal { message, remedy }) = answers.read().unwrap() else {
        panic!("not fatal")
    };
    assert!(message.contains("--delay") && message.contains("soon"), "{message}");
    assert!(remedy.contains("--help"), "{remedy}");
    assert!(answers.read().unwrap().is_none());
    assert!(!child.wait().unwrap().success());
}

#[test]
fn help_goes_to_stderr() {
    let output = Command::new(env!("CARGO_BIN_EXE_stoker-engine-echo")).arg("--help").output();
    let output = output.unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8(output.stderr).unwrap().contains("--delay TIME"));
}
