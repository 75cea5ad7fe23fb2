//! How an engine process ended, for people, for counters and for the jobs it was running.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// Why there is no engine any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Exit {
    #[error("could not be started: {reason}")]
    Spawn { reason: String },
    /// It said itself why it cannot start.
    #[error("cannot start: {message}; {remedy}")]
    Fatal { message: String, remedy: String },
    #[error("was not ready within {limit:?}")]
    StartTimeout { limit: Duration },
    #[error("was killed by signal {signal}{}", signal_hint(*signal))]
    Signal { signal: i32 },
    #[error("exited with code {code}")]
    Code { code: i32 },
    #[error("made no progress for {silence:?} and was killed")]
    Hung { silence: Duration },
    /// Its messages cannot be understood.
    #[error("broke the protocol and was killed: {what}")]
    Protocol { what: String },
    /// The worker ended it because of an impossible answer.
    #[error("gave an impossible answer and was killed")]
    Distrusted,
    /// The worker ends.
    #[error("was stopped")]
    Stopped,
}

impl Exit {
    pub(super) fn of(status: ExitStatus) -> Self {
        match (status.signal(), status.code()) {
            (Some(signal), _) => Self::Signal { signal },
            (None, code) => Self::Code { code: code.unwrap_or(-1) },
        }
    }

    /// What a failed attempt is told.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Hung { .. } => "ENGINE_HUNG",
            Self::Protocol { .. } | Self::Distrusted => "ENGINE_INTERNAL",
            Self::Spawn { .. }
            | Self::Fatal { .. }
            | Self::StartTimeout { .. }
            | Self::Signal { .. }
            | Self::Code { .. }
            | Self::Stopped => "ENGINE_CRASHED",
        }
    }

    /// The label of the counter of restarts.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Spawn { .. } => "spawn",
            Self::Fatal { .. } => "fatal",
            Self::StartTimeout { .. } => "start_timeout",
            Self::Signal { .. } => "signal",
            Self::Code { .. } => "exit_code",
            Self::Hung { .. } => "hung",
            Self::Protocol { .. } | Self::Distrusted => "protocol",
            Self::Stopped => "stopped",
        }
    }
}

/// The code with which the system's loader ends a program that it cannot load.
pub(super) const NOT_LOADED: i32 = 127;

/// What a line of the loader says of a library that is missing; `None` for any other line. An engine for
/// a GPU is linked to the driver, so without one it never gets to speak for itself.
pub(super) fn missing_library(line: &str) -> Option<Exit> {
    let (_, rest) = line.split_once("error while loading shared libraries: ")?;
    let library = rest.split(':').next().unwrap_or(rest).trim();
    let remedy = if library.starts_with("libcuda.so") {
        "install NVIDIA's driver, which has it; start a container with its GPUs; or use --device cpu"
    } else if CUDA_LIBRARIES.iter().any(|known| library.starts_with(known)) {
        "install the libraries of the CUDA version that this engine was built with, or put their folder \
         into LD_LIBRARY_PATH"
    } else {
        "install the system's package that has it"
    };
    let message = format!("the library {library} is not on this machine");
    Some(Exit::Fatal { message, remedy: remedy.to_owned() })
}

const CUDA_LIBRARIES: [&str; 5] = ["libcudart", "libcublas", "libcurand", "libnvrtc", "libcudnn"];

const fn signal_hint(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL: it was built for another processor)",
        6 => " (SIGABRT)",
        9 => " (SIGKILL: by hand, or by the kernel for lack of memory)",
        11 => " (SIGSEGV)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_the_loader_misses_is_named_with_what_to_do() {
        let line = |library: &str| {
            format!(
                "/opt/stoker-engine-cuda90: error while loading shared libraries: {library}: cannot open \
                 shared object file: No such file or directory"
            )
        };
        for (library, advice) in [
            ("libcuda.so.1", "--device cpu"),
            ("libcublasLt.so.13", "LD_LIBRARY_PATH"),
            ("libcudnn.so.9", "LD_LIBRARY_PATH"),
            ("libgomp.so.1", "package"),
        ] {
            let Some(Exit::Fatal { message, remedy }) = missing_library(&line(library)) else {
                panic!("{library} is not seen")
            };
            assert!(message.contains(library) && !message.contains(':'), "{message}");
            assert!(remedy.contains(advice), "{library}: {remedy}");
        }
        assert_eq!(missing_library("{\"level\":\"INFO\"}"), None);
    }

    #[test]
    fn a_signal_and_a_code_are_told_apart() {
        assert_eq!(Exit::of(ExitStatus::from_raw(9)), Exit::Signal { signal: 9 });
        assert_eq!(Exit::of(ExitStatus::from_raw(3 << 8)), Exit::Code { code: 3 });
        assert!(Exit::Signal { signal: 9 }.to_string().contains("lack of memory"));
        assert_eq!(Exit::Hung { silence: Duration::from_secs(1) }.code(), "ENGINE_HUNG");
    }
}
