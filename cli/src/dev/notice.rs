//! What happens to the processes of a local fleet, in words.

use std::fmt;

use stoker_runtime::child::Ending;

use super::restart::Decision;
use crate::render::time::span;

/// Something that happened to a process, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    Started {
        name: String,
        pid: u32,
        again: bool,
    },
    Ended {
        name: String,
        pid: u32,
        ending: Ending,
        next: Decision,
    },
    /// Workers take long to be ready.
    Slow {
        ready: usize,
        workers: usize,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { name, pid, again } => {
                write!(f, "{name} {} (pid {pid})", if *again { "is back" } else { "started" })
            }
            Self::Slow { ready, workers } => write!(
                f,
                "{ready} of {workers} workers are ready; the logs say what the others wait for"
            ),
            Self::Ended { name, pid, ending, next } => {
                write!(f, "{name} (pid {pid}) {ending}")?;
                match next {
                    Decision::StartAfter(delay) => {
                        write!(f, "; starting it again in {}", span(*delay))
                    }
                    Decision::GiveUp => f.write_str("; taking the fleet down"),
                    Decision::LeaveBe => f.write_str(", as it was asked to; it stays away"),
                }
            }
        }
    }
}
