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
        Self::start_in(&[], task, directory, more)
    }

    /// With more in its environment.
    fn start_in(environment: &[(&str, &str)], task: &str, directory: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stoker-engine"))
            .args(["--task", task, "--model", "minilm", "--dir"])
            .arg(directory)
            .args(more)
            .envs(environment.iter().copied())
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

/// What libraries read only at the start of a process.
#[test]
fn a_process_gives_itself_the_environment_it_needs() {
    for (set, expected) in [
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
        // An old glibc puts a zero where a colon was.
        ("glibc.malloc.check=0", "glibc.malloc.check=0"),
        ("glibc.malloc.check=0", "glibc.malloc.hugetlb=1"),
    ] {
        let environment = [("GLIBC_TUNABLES", set), ("RAYON_NUM_THREADS", "7")];
        let mut engine = Engine::start_in(&environment, "text-embedding", &model_directory(), &[]);
        assert!(matches!(engine.answer(), FromEngine::Ready(_)));
        let found = fs::read(format!("/proc/{}/environ", engine.child.id())).unwrap();
        let found = String::from_utf8_lossy(&found);
        let set: Vec<&str> = found.split(['\0', ':']).collect();
        let set = |value: &str| set.iter().any(|variable| variable.ends_with(value));
        assert!(set("RAYON_NUM_THREADS=1") && set(expected), "{expected}: {found}");
        drop(engine.requests);
        assert!(engine.child.wait().unwrap().success());
    }
}

#[test]
fn a_process_that_is_told_that_it_has_it_warns_when_it_has_not() {
    let output = Command::new(env!("CARGO_BIN_EXE_stoker-engine"))
        .args(["--task", "text-embedding", "--model", "minilm", "--dir"])
        .arg(model_directory())
        .envs([("STOKER_ENGINE_AGAIN", "1"), ("RAYON_NUM_THREADS", "7")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && log.contains("RAYON_NUM_THREADS is not 1"), "{log}");
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
