//! The engine as its worker sees it: a process that speaks frames.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{env, fs};

use stoker_engine_api::{
    FrameReader, FrameWriter, FromEngine, ItemInput, ItemKey, ItemOutput, PROTOCOL_VERSION,
    ToEngine,
};

fn model_directory() -> PathBuf {
    let directory = env::var_os("STOKER_TEST_MODEL_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/models/all-minilm-l6-v2"),
        PathBuf::from,
    );
    assert!(
        directory.join("config.json").exists(),
        "no model in {}: run `make model`, or set STOKER_TEST_MODEL_DIR",
        directory.display()
    );
    directory
}

struct Engine {
    child: Child,
    requests: FrameWriter<ToEngine, ChildStdin>,
    answers: FrameReader<FromEngine, ChildStdout>,
}

impl Engine {
    fn start(task: &str, directory: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stoker-engine"))
            .args(["--task", task, "--model", "minilm", "--dir"])
            .arg(directory)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let requests = FrameWriter::new(child.stdin.take().unwrap());
        let answers = FrameReader::new(child.stdout.take().unwrap());
        let mut engine = Self { child, requests, answers };
        assert_eq!(engine.answer(), FromEngine::Hello { protocol: PROTOCOL_VERSION });
        engine
    }

    fn answer(&mut self) -> FromEngine {
        self.answers.read().unwrap().expect("an answer before the end of the stream")
    }

    /// What it says instead of becoming ready.
    fn fatal(mut self) -> (String, String) {
        let FromEngine::Fatal { message, remedy } = self.answer() else { panic!("not fatal") };
        assert!(self.answers.read().unwrap().is_none());
        assert!(!self.child.wait().unwrap().success());
        (message, remedy)
    }
}

#[test]
fn texts_become_vectors_of_length_one() {
    let mut engine = Engine::start("text-embedding", &model_directory(), &["--lanes", "2"]);
    let FromEngine::Ready(info) = engine.answer() else { panic!("not ready") };
    assert_eq!((info.model.as_str(), info.lanes, info.device.as_str()), ("minilm", 2, "cpu"));

    let texts = ["How do I reset my password?", "I forgot my login.", "The sea was calm."];
    let inputs = texts.map(|text| ItemInput::Text(text.to_owned()));
    let items = (0..).map(ItemKey).zip(inputs).collect();
    engine.requests.write(&ToEngine::Prepare { items }).unwrap();
    let FromEngine::Prepared { items } = engine.answer() else { panic!("not prepared") };
    assert!(items.iter().all(|(_, cost)| cost.as_ref().is_ok_and(|cost| *cost > 2)), "{items:?}");

    let items = vec![ItemKey(0), ItemKey(1), ItemKey(2)];
    engine.requests.write(&ToEngine::Run { batch: 1, items }).unwrap();
    let FromEngine::Done { batch: 1, outputs, .. } = engine.answer() else { panic!("not done") };
    let vectors: Vec<Vec<f32>> = outputs
        .into_iter()
        .map(|output| match output {
            ItemOutput::Embedding(vector) => vector,
            other => panic!("not an embedding but {}", other.kind()),
        })
        .collect();
    let dot = |a: usize, b: usize| -> f32 {
        vectors[a].iter().zip(&vectors[b]).map(|(a, b)| a * b).sum()
    };
    assert!((dot(0, 0) - 1.0).abs() < 1e-5, "length {}", dot(0, 0));
    assert!(dot(0, 1) > dot(0, 2) + 0.3, "{} and {}", dot(0, 1), dot(0, 2));

    drop(engine.requests);
    assert!(engine.answers.read().unwrap().is_none());
    assert!(engine.child.wait().unwrap().success());
}

#[test]
fn wrong_digest_is_fatal() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let engine = Engine::start("text-embedding", &model_directory(), &["--digest", &digest]);
    let (message, remedy) = engine.fatal();
    assert!(message.contains("model.safetensors") && message.contains("53aa51172d"), "{message}");
    assert!(remedy.contains("digest"), "{remedy}");
}

#[test]
fn corrupt_weights_are_fatal() {
    let folder = tempfile::TempDir::new().unwrap();
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    let files = ["config.json", "modules.json", "tokenizer.json", "1_Pooling/config.json"];
    for file in files {
        fs::copy(model_directory().join(file), folder.path().join(file)).unwrap();
    }
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(model_directory().join("model.safetensors")).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let (message, remedy) = Engine::start("text-embedding", folder.path(), &[]).fatal();
    assert!(message.contains(path.to_str().unwrap()) && message.contains("truncated"), "{message}");
    assert!(remedy.contains("fetch the model again"), "{remedy}");
}

#[test]
fn missing_directory_is_fatal() {
    let folder = tempfile::TempDir::new().unwrap();
    let (message, remedy) =
        Engine::start("text-embedding", &folder.path().join("gone"), &[]).fatal();
    assert!(message.contains("gone/config.json is missing"), "{message}");
    assert!(remedy.contains("`source`") && !remedy.contains("--"), "{remedy}");
}

#[test]
fn task_and_device_that_this_engine_does_not_have_are_fatal() {
    let (message, _) = Engine::start("echo", &model_directory(), &[]).fatal();
    assert!(message.contains("--task"), "{message}");
    let (message, _) =
        Engine::start("text-embedding", &model_directory(), &["--device", "gpu"]).fatal();
    assert!(message.contains("--device") && message.contains("cuda:0"), "{message}");
    #[cfg(not(feature = "cuda"))]
    {
        let (message, remedy) =
            Engine::start("text-embedding", &model_directory(), &["--device", "cuda:0"]).fatal();
        assert!(message.contains("device cuda:0"), "{message}");
        assert!(remedy.contains("`cuda` in its name") && !remedy.contains("--"), "{remedy}");
    }
}
