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
    fn a_signal_and_a_code_are_told_apart() {
        assert_eq!(Exit::of(ExitStatus::from_raw(9)), Exit::Signal { signal: 9 });
        assert_eq!(Exit::of(ExitStatus::from_raw(3 << 8)), Exit::Code { code: 3 });
        assert!(Exit::Signal { signal: 9 }.to_string().contains("lack of memory"));
        assert_eq!(Exit::Hung { silence: Duration::from_secs(1) }.code(), "ENGINE_HUNG");
    }
}
