//! Stoker's own programs as child processes of a test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use stoker_runtime::config::settings_in_environment;

use crate::poll;

/// The built program of this name, beside the test's own executable.
///
/// # Errors
/// Says how to build it when it is not there.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("finding the test's own executable")?;
    let found = own
        .ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file());
    found.with_context(|| {
        format!("{name} is not built: run `cargo build --workspace --bins`, or `make test`")
    })
}

/// The program's command, without what the person at the keyboard has set: a broker above all is none of a
/// test's business.
///
/// # Errors
/// As [`program`].
pub fn command(name: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(program(name)?);
    for setting in settings_in_environment() {
        command.env_remove(setting);
    }
    Ok(command)
}

/// A running program whose output goes to a file. Killed when dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Program {
    /// Starts the command with its output in `log`, which is appended to.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGKILL and waits until the process is gone.
    pub fn kill9(&mut self) {
        // A process that has ended already needs no kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A long run has thousands of them.
        self.child.stdin = None;
    }

    /// Sends a signal by name, such as `TERM`.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        signal_process(&self.pid().to_string(), signal).with_context(|| self.name.clone())
    }

    /// The status with which the process ended; `None` while it runs.
    ///
    /// # Errors
    /// When the process cannot be asked.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let ended = self.child.try_wait()?;
        if ended.is_some() {
            self.child.stdin = None;
        }
        Ok(ended)
    }

    /// Waits for the process to end.
    ///
    /// # Errors
    /// When it still runs after `within`; shows the end of its log.
    pub async fn wait(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        let log = self.log.clone();
        let child = std::sync::Mutex::new(&mut self.child);
        poll::until(&what, within, || async {
            let ended = child.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.try_wait()?;
            Ok(ended.ok_or_else(|| format!("running; its log ends:\n{}", tail(&log))))
        })
        .await
    }

    /// The end of what it has written.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// All that it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// A process that was not started by the test itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(u32);

impl Process {
    /// Sends SIGKILL.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn kill9(self) -> anyhow::Result<()> {
        signal_process(&self.0.to_string(), "KILL")
    }
}

/// Sends a signal by name, such as `TERM`.
///
/// # Errors
/// When the process is gone.
pub(crate) fn signal_process(pid: &str, signal: &str) -> anyhow::Result<()> {
    let status = Command::new("kill").args([&format!("-{signal}"), pid]).status();
    ensure!(status.context("running kill")?.success(), "process {pid} is gone");
    Ok(())
}

/// The processes that a process has started and that are still its children.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn children(parent: u32) -> anyhow::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("reading /proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end at any moment. Its parent is the second field after its name.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if after_name.split_whitespace().nth(1) == Some(&parent.to_string()) {
            found.push(Process(pid));
        }
    }
    Ok(found)
}

/// Resident memory of a process, in bytes.
///
/// # Errors
/// When the process is gone.
pub fn memory(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.with_context(|| format!("reading the memory of process {pid}"))?;
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let kib: u64 = kib.context("a process without memory")?.trim().parse()?;
    Ok(kib << 10)
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 30;
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
