//! Carries out the dead man's switch: runs the operator's command that ends the machine.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;
use tracing::error;

use crate::config::DeadManSettings;
use crate::error::WorkerError;

/// How long the command may take. It asks the system to end; that takes longer, and is not waited for.
const LIMIT: Duration = Duration::from_secs(30);

/// Why the command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum DeadManError {
    #[error("it cannot be started")]
    Start(#[source] std::io::Error),
    #[error("it ended with {0}")]
    Failed(std::process::ExitStatus),
    #[error("it did not end within {LIMIT:?}")]
    TimedOut,
}

/// Runs the command. Says so first: whoever looks for the machine later finds the reason in its log.
///
/// # Errors
/// When the command cannot be started, fails, or hangs: the machine still runs then.
pub(crate) async fn shut_down(settings: &DeadManSettings) -> Result<(), WorkerError> {
    let (command, after) = (&settings.command, settings.switch.after);
    error!(
        command,
        ?after,
        "idle and cut off from the coordinator for too long: shutting this machine down"
    );
    let failed = |source| WorkerError::DeadMan { command: command.clone(), source };
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(LIMIT, shell.status()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(failed(DeadManError::Failed(status))),
        Ok(Err(error)) => Err(failed(DeadManError::Start(error))),
        Err(_) => Err(failed(DeadManError::TimedOut)),
    }
}

#[cfg(test)]
mod tests {
    use stoker_core::departure::DeadMan;

    use super::*;

    async fn run(command: &str) -> Result<(), WorkerError> {
        let switch = DeadMan { after: Duration::from_mins(1) };
        shut_down(&DeadManSettings { switch, command: command.to_owned() }).await
    }

    #[tokio::test]
    async fn a_command_that_fails_is_an_error_that_names_it() {
        run("true").await.unwrap();
        let error = run("exit 3").await.unwrap_err();
        assert!(error.to_string().contains("exit 3"), "{error}");
    }
}
