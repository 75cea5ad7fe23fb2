//! The life of an engine process: say hello, load, serve, exit.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal, Write as _};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use crate::serve::{Replies, ServeOptions, serve_ready};
use crate::{Engine, FrameError, FromEngine, PROTOCOL_VERSION, StartError, panics};

const EXIT_USAGE: u8 = 2;

/// Loads an engine and serves it on stdin and stdout until the worker is done with it.
///
/// A panic while loading is reported as `Fatal` like an error. Logs go to stderr, as JSON unless
/// stderr is a terminal. The exit code is zero only after an orderly end.
pub fn run<E: Engine>(
    usage: &str,
    options: ServeOptions,
    load: impl FnOnce() -> Result<E, StartError>,
) -> ExitCode {
    let help = env::args().any(|argument| argument == "--help");
    if help || io::stdout().is_terminal() {
        // The text is all a person gets to see; there is nobody to tell when stderr is closed.
        let _ = io::stderr().write_all(usage.as_bytes());
        return if help { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) };
    }
    log_to_stderr();
    panics::log_only_places();
    match run_on_stdio(options, load) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "engine stopped");
            ExitCode::FAILURE
        }
    }
}

fn run_on_stdio<E: Engine>(
    options: ServeOptions,
    load: impl FnOnce() -> Result<E, StartError>,
) -> Result<ExitCode, crate::ServeError> {
    // `io::stdout()` flushes at every byte that looks like the end of a line; the file does not.
    let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(FrameError::Write)?;
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(FrameError::Read)?;
    let replies = Replies::new(File::from(stdout));
    replies.send(&FromEngine::Hello { protocol: PROTOCOL_VERSION })?;
    let loaded = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| {
        Err(StartError::new(
            format!("loading the model failed: {}", panics::place()),
            "this is a fault of the engine: report it with the engine's log",
        ))
    });
    match loaded {
        Ok(engine) => {
            serve_ready(engine, File::from(stdin), replies, options)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(StartError { message, remedy }) => {
            tracing::error!(message, remedy, "engine cannot start");
            replies.send(&FromEngine::Fatal { message, remedy })?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn log_to_stderr() {
    let builder = tracing_subscriber::fmt().with_writer(io::stderr).with_target(false);
    // The process has one subscriber; a second initialization can only come from a test.
    let _ = if io::stderr().is_terminal() {
        builder.try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
}
