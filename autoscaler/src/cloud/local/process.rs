//! Which process it is: its number, and when it was started, as a number alone may be of another one by now.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// One process of this machine, since its last start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    pid: u32,
    /// In ticks since the machine was started.
    started: u64,
}

impl ProcessId {
    /// The process that has this number now.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started) = read(&stat)?;
        // One that nobody has waited for is gone all the same.
        (state != "Z").then_some(Self { pid, started })
    }

    /// Whether it still runs.
    pub(super) fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Kills it, if it still runs.
    pub(super) fn kill(self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| self.lives()) {
            // It may end by itself between the two lines.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// State and start of a process. Its name may hold anything, so fields are counted from behind it.
fn read(stat: &str) -> Option<(&str, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let own = ProcessId::of(std::process::id()).unwrap();
        assert!(own.lives());
        assert!(!ProcessId { started: own.started + 1, ..own }.lives(), "another one's number");
    }

    #[test]
    fn a_name_with_brackets_and_spaces_confuses_nothing() {
        let stat = "42 (a) R (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        assert_eq!(read(stat), Some(("S", 777)));
        assert_eq!(read("42 (a) S 1"), None);
    }
}
