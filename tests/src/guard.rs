//! A server as a child process that ends with this one, however this one ends.
//!
//! It runs under a guard shell that waits for the end of its input: when this process goes, the pipe
//! closes and the guard kills its whole process group.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;

const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// What a guard does before it kills its process group.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AtEnd {
    Nothing,
    DeleteData,
}

impl AtEnd {
    /// `$1` is the server's folder, the rest the command. The group also dies when the command ends.
    const fn script(self) -> &'static str {
        match self {
            Self::Nothing => {
                r#"shift; { "$@"; kill -KILL 0; } &
                   read -r _; kill -KILL 0"#
            }
            // The server may be dying at this moment, and still be writing.
            Self::DeleteData => {
                r#"dir=$1; shift; { "$@"; kill -KILL 0; } &
                   read -r _
                   for pause in 0.1 0.2 0.4 0.8 1.6; do rm -rf -- "$dir" && break; sleep $pause; done
                   kill -KILL 0"#
            }
        }
    }
}

/// A command that runs as long as this value, and no longer than this process.
#[derive(Debug)]
pub(crate) struct Guarded {
    shell: Child,
}

impl Guarded {
    /// Starts the command in the environment it names; its output goes to a file in the folder.
    pub(crate) fn spawn(
        command: &Command,
        (dir, log): (&Path, &str),
        at_end: AtEnd,
    ) -> anyhow::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(dir.join(log))?;
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", at_end.script(), "guard"])
            .arg(dir)
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        Ok(Self { shell: shell.spawn()? })
    }

    pub(crate) fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.shell.try_wait().context("looking at a guarded process")?.is_some())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let deadline = Instant::now() + STOP_DEADLINE;
        while Instant::now() < deadline {
            if !matches!(self.shell.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(5));
        }
    }
}
