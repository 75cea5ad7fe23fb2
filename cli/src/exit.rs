//! Exit codes: the part of the command that scripts rely on.

use std::fmt::Write as _;
use std::process::ExitCode;

/// How the command ended. The numbers never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    Failed,
    Usage,
    NotFound,
    Unreachable,
    Refused,
    TimedOut,
    Interrupted,
    BrokenPipe,
    Terminated,
}

/// Every code with its meaning, in the order of the help text.
const TABLE: [(Exit, &str); 10] = [
    (Exit::Ok, "done"),
    (Exit::Failed, "a job did not succeed, or the operation failed"),
    (Exit::Usage, "wrong arguments, or a file that cannot be used"),
    (Exit::NotFound, "no such job, worker, machine or dead letter"),
    (Exit::Unreachable, "the coordinator cannot be reached"),
    (Exit::Refused, "the coordinator refused the request"),
    (Exit::TimedOut, "--timeout or --wait-timeout passed"),
    (Exit::Interrupted, "interrupted (Ctrl-C); jobs that were accepted go on"),
    (Exit::BrokenPipe, "whoever read the output went away"),
    (Exit::Terminated, "ended by SIGTERM"),
];

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Unreachable => 4,
            Self::Refused => 5,
            Self::TimedOut => 6,
            // As a shell reports a process that a signal ended: 128 and the signal's number.
            Self::Interrupted => 128 + 2,
            Self::BrokenPipe => 128 + 13,
            Self::Terminated => 128 + 15,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table as a section of the help text.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for (exit, meaning) in TABLE {
        writeln!(text, "{:>5}  {meaning}", exit.code()).expect("a string takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_its_own() {
        let codes: BTreeSet<u8> = TABLE.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes.len(), TABLE.len());
        assert!(codes.contains(&0));
    }
}
