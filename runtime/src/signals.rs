//! Signals become a cancelled token: the one way by which a process is asked to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::tasks::Tasks;

const EXIT_ON_INTERRUPT: i32 = 128 + 2;

/// What is to ask the process to stop could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch for signals or the end of standard input")]
pub struct SignalError(#[source] io::Error);

/// From here on SIGTERM and SIGINT ask all of `tasks` to end. A person who presses Ctrl-C after that
/// means it: SIGINT then ends the process at once, with exit code 130. Another SIGTERM changes
/// nothing: service managers and scripts on a machine that is being taken away repeat it, and each
/// would throw away the work that the first one is saving. They have SIGKILL for what must go.
///
/// Must be called on a tokio runtime.
pub fn shutdown_on_signals(tasks: &Tasks) -> Result<(), SignalError> {
    let mut signals = Signals::new().map_err(SignalError)?;
    let shutdown = tasks.shutdown_token();
    // Not waited for: it has to be there for the second signal while shutdown waits for the rest.
    Tasks::spawn_untracked(async move {
        let first = signals.next().await;
        info!(signal = first.name(), "shutting down; SIGINT ends the process at once from now on");
        shutdown.cancel();
        while signals.next().await == Received::Terminate {
            info!("shutting down already");
        }
        warn!("interrupted while shutting down; ending now without cleaning up");
        exit_now(EXIT_ON_INTERRUPT);
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    Interrupt,
    Terminate,
}

impl Received {
    const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
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
            _ = self.interrupt.recv() => Received::Interrupt,
            _ = self.terminate.recv() => Received::Terminate,
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
