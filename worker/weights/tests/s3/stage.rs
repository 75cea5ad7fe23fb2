//! A server with one model, and who gets it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};
use stoker_test_ec2::MotoServer;
use stoker_weights::{Bucket, Cache, CachedModel, Needs, Progress, WeightsError};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

pub(crate) const MIB: u64 = 1 << 20;

const NEEDS: Needs = Needs { files: &["config.json"], gguf: false };

/// Safetensors with so many bytes behind a header that names nothing.
pub(crate) fn weights(bytes: u64) -> Vec<u8> {
    let mut number: u32 = 1;
    let next = || {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        number.to_be_bytes()[0]
    };
    let numbers = std::iter::repeat_with(next).take(usize::try_from(bytes).unwrap());
    [2_u64.to_le_bytes().to_vec(), b"{}".to_vec(), numbers.collect()].concat()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub(crate) fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// A server with one model in a bucket, and a folder for a cache.
pub(crate) struct Stage {
    server: MotoServer,
    folder: TempDir,
    /// Where the model is.
    pub(crate) url: &'static str,
    pub(crate) sha256: String,
    /// Of the weights.
    pub(crate) bytes: u64,
    told: Mutex<Arc<(AtomicU64, AtomicU64)>>,
}

impl Stage {
    pub(crate) fn set(mebibytes: u64) -> Self {
        let server = MotoServer::start().unwrap();
        let content = weights(mebibytes * MIB);
        let folder = tempfile::tempdir().unwrap();
        let bytes = u64::try_from(content.len()).unwrap();
        let (url, sha256) = ("s3://models/mini/v1", sha256(&content));
        let stage = Self { server, folder, url, sha256, bytes, told: Mutex::default() };
        stage.server.put("models", &[]).unwrap();
        stage.put("mini/v1/config.json", b"{}");
        stage.put("mini/v1/1_Pooling/config.json", b"{\"a\":1}");
        stage.put("mini/v1/model.safetensors", &content);
        stage.put("mini/v10/other.json", b"{}");
        stage
    }

    /// Puts a new object into the bucket.
    pub(crate) fn put(&self, name: &str, body: &[u8]) {
        self.server.put(&format!("models/{name}"), body).unwrap();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// Gets the model through this address.
    pub(crate) async fn get(&self, address: SocketAddr) -> Result<CachedModel, WeightsError> {
        let told = Arc::new((AtomicU64::new(u64::MAX), AtomicU64::new(0)));
        *self.told.lock().unwrap() = Arc::clone(&told);
        let progress: Progress = Arc::new(move |bytes, _| {
            told.0.fetch_min(bytes, Ordering::SeqCst);
            told.1.fetch_max(bytes, Ordering::SeqCst);
        });
        let variables = MotoServer::s3_variables(address);
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value));
        let bucket = Bucket::open(self.url, variables)?;
        Cache::open(self.cache(), 1 << 30)?.get(&bucket, &self.sha256, NEEDS, &progress).await
    }

    /// The least and the most bytes that were told of in the last call.
    pub(crate) fn told(&self) -> (u64, u64) {
        let told = self.told.lock().unwrap();
        (told.0.load(Ordering::SeqCst), told.1.load(Ordering::SeqCst))
    }
}

/// Another process that gets the model; killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    told: Vec<u64>,
}

impl Process {
    pub(crate) fn start(stage: &Stage, address: SocketAddr) -> Self {
        let mut child = Command::new(program())
            .args([stage.url, &stage.sha256])
            .arg(stage.cache())
            .envs(MotoServer::s3_variables(address))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, told: Vec::new() }
    }

    /// Waits until it says that at least so many bytes are there; how many those are.
    pub(crate) async fn until_bytes(&mut self, least: u64) -> u64 {
        loop {
            let line = self.lines.next_line().await.unwrap().unwrap();
            let bytes: u64 = line.parse().unwrap();
            self.told.push(bytes);
            if bytes >= least {
                return bytes;
            }
        }
    }

    /// Waits until it has the model; its folder.
    pub(crate) async fn until_done(&mut self) -> String {
        loop {
            let line = self.lines.next_line().await.unwrap().unwrap();
            match line.parse() {
                Ok(bytes) => self.told.push(bytes),
                Err(_) => return line,
            }
        }
    }

    /// All that it said of bytes.
    pub(crate) fn told(&self) -> Vec<u64> {
        self.told.clone()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.start_kill().unwrap();
    }
}

/// The program for tests, which cargo builds beside them; built here when only they were asked for.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let program = profile.join("examples/fetch-weights");
    if !program.exists() {
        let mut build = std::process::Command::new(env!("CARGO"));
        build.args(["build", "-p", "stoker-weights", "--example", "fetch-weights"]);
        build.env("CARGO_TARGET_DIR", profile.parent().unwrap());
        assert!(build.status().unwrap().success(), "building the program for tests");
    }
    program
}
