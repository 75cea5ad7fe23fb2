//! An engine process on the GPU, as a worker has it.

use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{env, thread};

use stoker_engine_api::{
    EngineError, EngineInfo, FrameReader, FrameWriter, FromEngine, ItemInput, ItemKey, ItemOutput,
    ToEngine,
};

use crate::minilm;

pub(crate) struct EngineProcess {
    child: Child,
    requests: FrameWriter<ToEngine, ChildStdin>,
    answers: FrameReader<FromEngine, ChildStdout>,
    pub(crate) info: EngineInfo,
    next_batch: u64,
}

fn program() -> PathBuf {
    env::var_os("STOKER_TEST_ENGINE")
        .map_or_else(|| env!("CARGO_BIN_EXE_stoker-engine").into(), PathBuf::from)
}

impl EngineProcess {
    /// Starts it and waits until it is warm.
    ///
    /// # Panics
    /// When it says why it cannot start.
    pub(crate) fn start(more: &[&str]) -> Self {
        let mut child = Command::new(program())
            .args(["--task", "text-embedding", "--model", "minilm", "--device", "cuda:0", "--dir"])
            .arg(minilm())
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let requests = FrameWriter::new(child.stdin.take().unwrap());
        let mut answers = FrameReader::new(child.stdout.take().unwrap());
        loop {
            match answers.read().unwrap().expect("the engine goes on") {
                FromEngine::Hello { .. } => {}
                FromEngine::Ready(info) => {
                    return Self { child, requests, answers, info, next_batch: 0 };
                }
                other => panic!("not ready: {other:?}"),
            }
        }
    }

    pub(crate) fn prepare(&mut self, texts: &[String]) {
        let inputs = texts.iter().cloned().map(ItemInput::Text);
        let items = (0..).map(ItemKey).zip(inputs).collect();
        self.requests.write(&ToEngine::Prepare { items }).unwrap();
        let Some(FromEngine::Prepared { items }) = self.answers.read().unwrap() else {
            panic!("not prepared")
        };
        assert!(items.iter().all(|(_, cost)| cost.is_ok()));
    }

    /// Runs the items with these keys, which stay prepared when it fails.
    pub(crate) fn run(
        &mut self,
        keys: std::ops::Range<u64>,
    ) -> Result<Vec<ItemOutput>, EngineError> {
        self.next_batch += 1;
        let items = keys.map(ItemKey).collect();
        self.requests.write(&ToEngine::Run { batch: self.next_batch, items }).unwrap();
        match self.answers.read().unwrap().expect("the engine goes on") {
            FromEngine::Done { outputs, .. } => Ok(outputs),
            FromEngine::Failed { error, .. } => Err(error),
            other => panic!("no answer to a batch: {other:?}"),
        }
    }

    /// Ends it in good order.
    pub(crate) fn stop(mut self) {
        drop(self.requests);
        // Whoever ends while it still answers would break its pipe.
        let drain = thread::spawn(move || while let Ok(Some(_)) = self.answers.read() {});
        assert!(self.child.wait().unwrap().success());
        drain.join().unwrap();
    }

    /// Ends it as a lack of host memory would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
