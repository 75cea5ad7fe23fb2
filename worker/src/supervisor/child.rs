//! One engine process: its pipes as messages, its log as ours, its end as an [`Exit`].

use std::ffi::OsStr;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use stoker_core::ids::ModelName;
use stoker_engine_api::frame::{PREFIX_BYTES, decode, encode, payload_bytes};
use stoker_engine_api::{EngineInfo, FromEngine, PROTOCOL_VERSION};
use stoker_runtime::tasks::Tasks;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::{debug, error, info, warn};

use super::exit::{NOT_LOADED, missing_library};
use super::watchdog::Watchdog;
use super::{EngineSpec, Exit, Outgoing};

/// How long to wait for the process table after the pipe closed or the process was killed.
const REAP_LIMIT: Duration = Duration::from_secs(5);

/// Messages that are written with one call when they pile up.
const WRITE_AT_ONCE: usize = 32;

/// Room that a read is given at least.
const READ_BYTES: usize = 64 << 10;

/// A longer line of the engine's log is cut.
const LOG_LINE_BYTES: u64 = 8 << 10;

/// Variables of the worker that hold secrets. An engine runs the code of models and needs none of them.
const SECRETS: [&str; 5] = [
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "STOKER_BROKER_URI",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
];
/// With what the variables of clouds begin, credentials among them.
const CLOUDS: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// A running engine process. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Child {
    process: tokio::process::Child,
    pid: u32,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// What was read and is not a whole frame yet.
    buffer: bytes::BytesMut,
    /// Reads its log to the end.
    log: JoinHandle<()>,
    /// What the system's loader said, if it could not start the program.
    not_loaded: Arc<OnceLock<Exit>>,
}

impl Child {
    pub(super) fn start(spec: &EngineSpec, tasks: &Tasks) -> Result<Self, Exit> {
        let mut process = command(spec).spawn().map_err(|error| Exit::Spawn {
            reason: format!("{}: {error}", spec.program.display()),
        })?;
        let pid = process.id().unwrap_or_default();
        let stdin = process.stdin.take();
        let pipes = (process.stdout.take(), process.stderr.take());
        let (Some(stdout), Some(stderr)) = pipes else {
            return Err(Exit::Spawn { reason: "its pipes are missing".to_owned() });
        };
        let not_loaded = Arc::default();
        let log = forward_log(stderr, spec.model.clone(), pid, Arc::clone(&not_loaded));
        let log = tasks.spawn("engine-log", log);
        let buffer = bytes::BytesMut::new();
        Ok(Self { process, pid, stdin, stdout, buffer, log, not_loaded })
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the model is loaded and warm.
    pub(super) async fn wait_ready(&mut self, model: &ModelName) -> Result<EngineInfo, Exit> {
        match self.read().await? {
            FromEngine::Hello { protocol: PROTOCOL_VERSION } => {}
            FromEngine::Hello { protocol } => {
                let what = format!(
                    "it speaks version {protocol}, this worker {PROTOCOL_VERSION}: install both \
                     from one release"
                );
                return Err(Exit::Protocol { what });
            }
            _ => return Err(Exit::Protocol { what: "it did not say hello".to_owned() }),
        }
        match self.read().await? {
            FromEngine::Ready(engine) if engine.model == model.as_str() && engine.lanes > 0 => {
                Ok(engine)
            }
            FromEngine::Ready(_) => {
                Err(Exit::Protocol { what: "it loaded another model".to_owned() })
            }
            FromEngine::Fatal { message, remedy } => Err(Exit::Fatal { message, remedy }),
            _ => Err(Exit::Protocol { what: "it spoke before it was ready".to_owned() }),
        }
    }

    /// The next message. Cancel-safe: a frame that is read in part stays in the buffer.
    pub(super) async fn read(&mut self) -> Result<FromEngine, Exit> {
        loop {
            if let Some(message) = self.take_frame()? {
                return Ok(message);
            }
            self.buffer.reserve(READ_BYTES);
            match self.stdout.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(self.ended().await),
                Ok(_) => {}
                Err(error) => return Err(Exit::Protocol { what: error.to_string() }),
            }
        }
    }

    fn take_frame(&mut self) -> Result<Option<FromEngine>, Exit> {
        let broken =
            |error: stoker_engine_api::FrameError| Exit::Protocol { what: error.to_string() };
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let end = PREFIX_BYTES + payload_bytes(*prefix).map_err(broken)?;
        let Some(payload) = self.buffer.get(PREFIX_BYTES..end) else { return Ok(None) };
        let message = decode(payload).map_err(broken)?;
        bytes::Buf::advance(&mut self.buffer, end);
        Ok(Some(message))
    }

    /// Reads and drops messages until the pipe closes.
    pub(super) async fn drain(&mut self) {
        while self.read().await.is_ok() {}
    }

    /// The exit of a process whose output has ended.
    async fn ended(&mut self) -> Exit {
        match timeout(REAP_LIMIT, self.process.wait()).await {
            Ok(Ok(status)) if status.code() == Some(NOT_LOADED) => {
                // The reason is the last line of its log.
                let _ = timeout(REAP_LIMIT, &mut self.log).await;
                self.not_loaded.get().cloned().unwrap_or_else(|| Exit::of(status))
            }
            Ok(Ok(status)) => Exit::of(status),
            Ok(Err(error)) => Exit::Protocol { what: error.to_string() },
            Err(_) => Exit::Protocol { what: "it closed its output and went on".to_owned() },
        }
    }

    /// Makes sure that the process is gone; gives `exit` back.
    pub(super) async fn kill(mut self, exit: Exit) -> Exit {
        let killed = timeout(REAP_LIMIT, self.process.kill()).await;
        if !matches!(killed, Ok(Ok(()))) {
            // A process in an uninterruptible driver call; the kernel ends it when the call returns.
            error!(pid = self.pid, "engine process does not die");
        }
        exit
    }

    /// Writes messages until the channel closes or the process stops reading.
    pub(super) fn write_from(
        &mut self,
        mut messages: mpsc::Receiver<Outgoing>,
        watchdog: Arc<Watchdog>,
        tasks: &Tasks,
    ) -> JoinHandle<()> {
        let stdin = self.stdin.take();
        tasks.spawn("engine-writer", async move {
            let Some(mut stdin) = stdin else { return };
            let mut waiting = Vec::with_capacity(WRITE_AT_ONCE);
            while messages.recv_many(&mut waiting, WRITE_AT_ONCE).await > 0 {
                let mut bytes = Vec::new();
                for Outgoing { message, tokens } in waiting.drain(..) {
                    watchdog.sent(&message, tokens, Instant::now());
                    match encode(&message) {
                        Ok(frame) if bytes.is_empty() => bytes = frame,
                        Ok(frame) => bytes.extend_from_slice(&frame),
                        // The board keeps messages far below the limit; if it did not, the engine
                        // would never answer and the watchdog would end it.
                        Err(error) => error!(%error, "message to the engine is lost"),
                    }
                }
                if let Err(error) = stdin.write_all(&bytes).await {
                    // The end of the process is seen by whoever reads its output.
                    debug!(%error, "engine does not read any more");
                    return;
                }
            }
        })
    }
}

fn command(spec: &EngineSpec) -> Command {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.arguments)
        .envs(spec.environment.iter().map(|(name, value)| (name, value)))
        // Lanes run side by side: each forward stays on its own thread.
        .env("RAYON_NUM_THREADS", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A Ctrl-C for the worker's terminal must not end engines that still finish work.
        .process_group(0)
        .kill_on_drop(true);
    for secret in SECRETS {
        command.env_remove(secret);
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_a_cloud(name)) {
        command.env_remove(name);
    }
    command
}

fn is_of_a_cloud(variable: &OsStr) -> bool {
    variable.to_str().is_some_and(|name| CLOUDS.iter().any(|cloud| name.starts_with(cloud)))
}

/// The engine's log as events of this process.
async fn forward_log(
    stderr: ChildStderr,
    model: ModelName,
    pid: u32,
    not_loaded: Arc<OnceLock<Exit>>,
) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut lines).take(LOG_LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let line = String::from_utf8_lossy(&line);
                if let Some(exit) = missing_library(&line) {
                    // Only the first line of a process can be the loader's, and it is its last.
                    let _ = not_loaded.set(exit);
                }
                forward_line(line.trim_end(), &model, pid);
            }
        }
    }
}

fn forward_line(line: &str, model: &ModelName, pid: u32) {
    if line.is_empty() {
        return;
    }
    let event: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(line).ok();
    let text = |name: &str| event.as_ref()?.get(name)?.as_str().map(str::to_owned);
    let level = text("level");
    let text = text("message").unwrap_or_else(|| line.to_owned());
    let fields = event.as_ref().map(other_fields).unwrap_or_default();
    match level.as_deref() {
        Some("ERROR") => error!(%model, pid, text, fields, "engine says"),
        Some("INFO") => info!(%model, pid, text, fields, "engine says"),
        Some("DEBUG" | "TRACE") => debug!(%model, pid, text, fields, "engine says"),
        // Lines that are no events come from a library or a crash: worth a look.
        _ => warn!(%model, pid, text, fields, "engine says"),
    }
}

fn other_fields(event: &serde_json::Map<String, serde_json::Value>) -> String {
    let known = ["timestamp", "level", "message", "target"];
    let others = event.iter().filter(|(name, _)| !known.contains(&name.as_str()));
    others.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the loader ends an engine for a GPU on a machine without a driver.
    #[tokio::test]
    async fn an_engine_that_cannot_be_loaded_is_told_with_what_to_do() {
        let line = "engine: error while loading shared libraries: libcuda.so.1: cannot open shared object \
                    file: No such file or directory";
        let spec = EngineSpec {
            model: ModelName::new("m").unwrap(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), format!("echo '{line}' >&2; exit 127")],
            environment: Vec::new(),
            start_limit: Duration::ZERO,
            stall_limit: Duration::ZERO,
            cached: None,
        };
        let tasks = Tasks::new(tokio_util::sync::CancellationToken::new());
        let mut child = Child::start(&spec, &tasks).unwrap();
        let exit = child.wait_ready(&spec.model).await.unwrap_err();
        let text = exit.to_string();
        assert!(matches!(exit, Exit::Fatal { .. }), "{text}");
        assert!(text.contains("libcuda.so.1") && text.contains("--device cpu"), "{text}");
    }

    #[test]
    fn an_engine_does_not_inherit_the_worker_s_secrets() {
        let spec = EngineSpec {
            model: ModelName::new("m").unwrap(),
            program: "engine".into(),
            arguments: Vec::new(),
            environment: vec![("CUDA_VISIBLE_DEVICES", "GPU-1".to_owned())],
            start_limit: Duration::ZERO,
            stall_limit: Duration::ZERO,
            cached: None,
        };
        let command = command(&spec);
        let changes: Vec<_> = command.as_std().get_envs().collect();
        let gpu = ("CUDA_VISIBLE_DEVICES".as_ref(), Some("GPU-1".as_ref()));
        assert!(changes.contains(&gpu), "the GPU is not passed on");
        for secret in ["HF_TOKEN", "STOKER_BROKER_URI", "OTEL_EXPORTER_OTLP_HEADERS"] {
            assert!(changes.contains(&(secret.as_ref(), None)), "{secret} is passed on");
        }
        assert!(is_of_a_cloud("AWS_SECRET_ACCESS_KEY".as_ref()));
        assert!(!is_of_a_cloud("PATH".as_ref()) && !is_of_a_cloud("CUDA_VISIBLE_DEVICES".as_ref()));
    }
}
