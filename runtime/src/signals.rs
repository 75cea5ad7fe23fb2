//! Signals become a cancelled token: the one way by which a process is asked to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::tasks::Tasks;

const EXIT_ON_INTERRUPT: i32 = 128 + 2;
const EXIT_ON_TERMINATE: i32 = 128 + 15;

/// What is to ask the process to stop could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch for signals or the end of standard input")]
pub struct SignalError(#[source] io::Error);

/// From here on SIGTERM and SIGINT ask all of `tasks` to end; the next one of either ends the
/// process at once, with exit code 130 (SIGINT) or 143 (SIGTERM).
///
/// Must be called on a tokio runtime.
pub fn shutdown_on_signals(tasks: &Tasks) -> Result<(), SignalError> {
    let mut signals = Signals::new().map_err(SignalError)?;
    let shutdown = tasks.shutdown_token();
    // Not waited for: it has to be there for the second signal while shutdown waits for the rest.
    Tasks::spawn_untracked(async move {
        let first = signals.next().await;
        info!(signal = first.name, "shutting down; a second signal ends the process at once");
        shutdown.cancel();
        let second = signals.next().await;
        warn!(signal = second.name, "second signal; ending now without cleaning up");
        exit_now(second.exit_code);
    });
    Ok(())
}

/// From here on the end of standard input asks all of `tasks` to end: for a child process that must
/// not outlive the parent that holds the other end, however that one ends.
///
/// # Errors
/// When no thread can be started.
pub fn shutdown_on_stdin_eof(tasks: &Tasks) -> Result<(), SignalError> {
    let shutdown = tasks.shutdown_token();
    // A thread of its own, never joined: a read that blocks must not hold up the runtime's end.
    std::thread::Builder::new()
        .name("stdin-watch".to_owned())
        .spawn(move || {
            // Whatever comes is of no interest; an error ends it like the end of input.
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            info!("shutting down: the parent process has closed standard input");
            shutdown.cancel();
        })
        .map(drop)
        .map_err(SignalError)
}

struct Received {
    name: &'static str,
    exit_code: i32,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Received {
        // `Signal::recv` is cancel safe: a signal that comes between two calls is not lost.
        tokio::select! {
            _ = self.interrupt.recv() => Received { name: "SIGINT", exit_code: EXIT_ON_INTERRUPT },
            _ = self.terminate.recv() => Received { name: "SIGTERM", exit_code: EXIT_ON_TERMINATE },
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "the operator asked twice: destructors may be what hangs"
)]
fn exit_now(code: i32) {
    std::process::exit(code)
}

#[cfg(test)]
#[path = "signals/tests.rs"]
mod tests;
