//! Runs the command and keeps what it said.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Nothing here takes longer; a test that hangs should say so.
const LIMIT: Duration = Duration::from_mins(1);

/// What a run of the command left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn out(&self) -> String {
        String::from_utf8(self.out.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails with both outputs if the code is another one.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out(), self.err);
        self
    }
}

/// The command without any of the settings of whoever runs the tests.
pub(crate) fn command(arguments: &[&str]) -> Command {
    command_of(Path::new(env!("CARGO_BIN_EXE_stoker")), arguments)
}

/// The same by another path.
pub(crate) fn command_of(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

pub(crate) async fn stoker(arguments: &[&str]) -> Run {
    finish(command(arguments)).await
}

/// With a server before the other arguments.
pub(crate) async fn stoker_at(server: &str, arguments: &[&str]) -> Run {
    stoker(&[&["--server", server], arguments].concat()).await
}

pub(crate) async fn stoker_with_input(arguments: &[&str], input: &[u8]) -> Run {
    let mut command = command(arguments);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).await.unwrap();
    drop(stdin);
    ended(child.wait_with_output()).await
}

pub(crate) async fn stoker_in(folder: &Path, arguments: &[&str]) -> Run {
    let mut command = command(arguments);
    command.current_dir(folder);
    finish(command).await
}

async fn finish(mut command: Command) -> Run {
    ended(command.output()).await
}

async fn ended(output: impl Future<Output = std::io::Result<std::process::Output>>) -> Run {
    let output = tokio::time::timeout(LIMIT, output).await.expect("the command hangs").unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        out: output.stdout,
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
