//! The main loop of an engine process, with engines that misbehave.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::io::{self, PipeReader, PipeWriter};
use std::sync::{Barrier, Mutex};
use std::thread::{self, JoinHandle};

use stoker_engine_api::serve::ServeOptions;
use stoker_engine_api::{
    Engine, EngineError, EngineInfo, FrameReader, FrameWriter, FromEngine, ItemError, ItemInput,
    ItemKey, ItemOutput, LoadSeconds, Prepared, ServeError, TaskKind, ToEngine, serve,
};

/// Does what the text of an item says.
struct Puppet {
    info: EngineInfo,
    both_lanes: Barrier,
    ran: Mutex<Vec<String>>,
}

struct Line(String);

impl Prepared for Line {
    fn cost(&self) -> u32 {
        1
    }
}

impl Puppet {
    fn new(lanes: u32) -> Self {
        let info = EngineInfo {
            model: "puppet".to_owned(),
            task: TaskKind::Echo,
            output_dimensions: None,
            labels: None,
            max_tokens: 1,
            max_batch_tokens: 1,
            weights_bytes: 0,
            weights_sha256: None,
            lanes,
            device: "cpu".to_owned(),
            load: LoadSeconds::default(),
        };
        Self { info, both_lanes: Barrier::new(2), ran: Mutex::new(Vec::new()) }
    }
}

impl Engine for Puppet {
    type Prepared = Line;

    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn prepare(&self, input: ItemInput) -> Result<Line, ItemError> {
        let ItemInput::Text(text) = input else { panic!("not a text") };
        match text.as_str() {
            "bad item" => Err(ItemError::Invalid { message: "told so".to_owned() }),
            "panic in prepare" => panic!("told to panic by {text}"),
            _ => Ok(Line(text)),
        }
    }

    fn run(&self, items: &[&Line]) -> Result<Vec<ItemOutput>, EngineError> {
        let message = || "told so".to_owned();
        for Line(text) in items {
            match text.as_str() {
                "out of memory once" => {
                    let mut ran = self.ran.lock().unwrap();
                    if !ran.contains(text) {
                        ran.push(text.clone());
                        return Err(EngineError::OutOfMemory { message: message() });
                    }
                }
                "device error" => return Err(EngineError::Device { message: message() }),
                "too few outputs" => return Ok(Vec::new()),
                "panic" => panic!("told to panic"),
                "wait for the other lane" => {
                    self.both_lanes.wait();
                }
                _ => {}
            }
        }
        Ok(items.iter().map(|Line(text)| ItemOutput::Text(text.clone())).collect())
    }
}

struct Session {
    requests: FrameWriter<ToEngine, PipeWriter>,
    answers: FrameReader<FromEngine, PipeReader>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Session {
    fn start(lanes: u32) -> Self {
        let (request_end, requests) = io::pipe().unwrap();
        let (answers, answer_end) = io::pipe().unwrap();
        let serving = thread::spawn(move || {
            serve(Puppet::new(lanes), request_end, answer_end, ServeOptions::default())
        });
        let mut session = Self {
            requests: FrameWriter::new(requests),
            answers: FrameReader::new(answers),
            serving,
        };
        assert!(matches!(session.answer(), FromEngine::Ready(info) if info.lanes == lanes));
        session
    }

    fn ask(&mut self, request: &ToEngine) {
        self.requests.write(request).unwrap();
    }

    fn answer(&mut self) -> FromEngine {
        self.answers.read().unwrap().expect("an answer before the end of the stream")
    }

    /// Prepares items with keys from `first` on.
    fn prepare(&mut self, first: u64, texts: &[&str]) -> Vec<Result<u32, ItemError>> {
        let items = (first..).map(ItemKey).zip(texts.iter().map(|text| text_input(text)));
        self.ask(&ToEngine::Prepare { items: items.collect() });
        match self.answer() {
            FromEngine::Prepared { items } => items.into_iter().map(|(_, result)| result).collect(),
            other => panic!("expected Prepared, got {other:?}"),
        }
    }

    fn run(&mut self, batch: u64, keys: &[u64]) {
        self.ask(&ToEngine::Run { batch, items: keys.iter().copied().map(ItemKey).collect() });
    }

    fn end(self) -> Result<(), ServeError> {
        drop(self.requests);
        self.serving.join().unwrap()
    }
}

fn text_input(text: &str) -> ItemInput {
    ItemInput::Text(text.to_owned())
}

fn failure(answer: FromEngine) -> EngineError {
    match answer {
        FromEngine::Failed { error, .. } => error,
        other => panic!("expected Failed, got {other:?}"),
    }
}

fn texts(answer: FromEngine) -> Vec<String> {
    let FromEngine::Done { outputs, .. } = answer else { panic!("expected Done, got {answer:?}") };
    let text = |output| match output {
        ItemOutput::Text(text) => text,
        other => panic!("expected a text, got {}", other.kind()),
    };
    outputs.into_iter().map(text).collect()
}

#[test]
fn outputs_come_in_the_order_of_the_batch() {
    let mut session = Session::start(1);
    assert_eq!(session.prepare(0, &["a", "b", "c"]), [Ok(1), Ok(1), Ok(1)]);
    session.run(1, &[2, 0, 1]);
    assert_eq!(texts(session.answer()), ["c", "a", "b"]);
    session.run(2, &[]);
    assert_eq!(texts(session.answer()), [""; 0]);
    session.end().unwrap();
}

#[test]
fn finished_and_forgotten_items_are_gone() {
    let mut session = Session::start(1);
    session.prepare(0, &["a", "b"]);
    session.run(1, &[0]);
    session.answer();
    session.ask(&ToEngine::Forget { items: vec![ItemKey(1), ItemKey(99)] });
    for (batch, key) in [(2, 0), (3, 1)] {
        session.run(batch, &[key]);
        let error = failure(session.answer());
        assert_eq!(error, EngineError::Input { message: format!("item {key} is not prepared") });
    }
    session.end().unwrap();
}

#[test]
fn bad_items_leave_their_neighbors_alone() {
    let mut session = Session::start(1);
    let results = session.prepare(0, &["bad item", "good", "panic in prepare"]);
    assert_eq!(results[0], Err(ItemError::Invalid { message: "told so".to_owned() }));
    assert_eq!(results[1], Ok(1));
    let Err(ItemError::Internal { message }) = &results[2] else { panic!("{results:?}") };
    assert!(message.contains("panicked") && !message.contains("told to panic"), "{message}");
    session.run(1, &[1]);
    assert_eq!(texts(session.answer()), ["good"]);
    session.end().unwrap();
}

#[test]
fn batch_out_of_memory_can_be_run_again_in_parts() {
    let mut session = Session::start(1);
    session.prepare(0, &["out of memory once", "b"]);
    session.run(1, &[0, 1]);
    assert!(matches!(failure(session.answer()), EngineError::OutOfMemory { .. }));
    session.run(2, &[0]);
    assert_eq!(texts(session.answer()), ["out of memory once"]);
    session.run(3, &[1]);
    assert_eq!(texts(session.answer()), ["b"]);
    session.end().unwrap();
}

#[test]
fn unknown_state_is_reported_and_ends_the_engine() {
    for text in ["device error", "panic", "too few outputs"] {
        let mut session = Session::start(2);
        session.prepare(0, &[text]);
        session.run(1, &[0]);
        assert!(failure(session.answer()).ends_engine(), "{text}");
        // The request pipe is still open: nothing but the failure makes it return.
        let ended = session.serving.join().unwrap();
        assert!(matches!(ended, Err(ServeError::Engine(_))), "{text}: {ended:?}");
    }
}

#[test]
fn lanes_run_at_the_same_time() {
    let mut session = Session::start(2);
    session.prepare(0, &["wait for the other lane", "wait for the other lane"]);
    session.run(1, &[0]);
    session.run(2, &[1]);
    let mut done = [session.answer(), session.answer()].map(|answer| match answer {
        FromEngine::Done { batch, .. } => batch,
        other => panic!("expected Done, got {other:?}"),
    });
    done.sort_unstable();
    assert_eq!(done, [1, 2]);
    session.end().unwrap();
}

#[test]
fn shutdown_finishes_what_was_sent() {
    let mut session = Session::start(1);
    session.prepare(0, &["a", "b"]);
    session.run(1, &[0]);
    session.run(2, &[1]);
    session.ask(&ToEngine::Shutdown);
    assert_eq!(texts(session.answer()), ["a"]);
    assert_eq!(texts(session.answer()), ["b"]);
    session.serving.join().unwrap().unwrap();
}

#[test]
fn garbage_on_stdin_ends_the_engine() {
    let (request_end, mut requests) = io::pipe().unwrap();
    let (answers, answer_end) = io::pipe().unwrap();
    let serving = thread::spawn(move || {
        serve(Puppet::new(1), request_end, answer_end, ServeOptions::default())
    });
    io::Write::write_all(&mut requests, b"GET / HTTP/1.1\r\n").unwrap();
    let ended = serving.join().unwrap();
    assert!(matches!(ended, Err(ServeError::Worker(_))), "{ended:?}");
    drop(answers);
}

#[test]
fn worker_that_went_away_ends_the_engine() {
    let mut session = Session::start(1);
    session.prepare(0, &["a"]);
    drop(session.answers);
    session.requests.write(&ToEngine::Run { batch: 1, items: vec![ItemKey(0)] }).unwrap();
    let ended = session.serving.join().unwrap();
    assert!(matches!(ended, Err(ServeError::Worker(_))), "{ended:?}");
}
