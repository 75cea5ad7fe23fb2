//! What a worker that has to go still finishes, and when it has to go at all.
//!
//! A signal, an operator's command and the cloud's notice differ in why and in how long; everything else is
//! the same. The rules:
//! - No new work from the first moment on.
//! - A job that ends in time by its own measured pace is finished; every other one is handed over at once with
//!   what is done of it, so that somebody else goes on with it while this machine still exists.
//! - Where nothing was measured yet, the first batch will tell: such a job stays until then.

mod dead_man;
mod pace;
mod plan;

use std::time::Duration;

use crate::time::Timestamp;

pub use dead_man::{DeadMan, Signs, Verdict};
pub use pace::Pace;
pub use plan::{Engine, Remaining, hand_over, time_left};

/// Why a worker goes. A later one is the stronger one: it stays when several come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It is idle and cut off from its coordinator for too long.
    CutOff,
    /// It was asked to by a signal, or its parent ended.
    Shutdown,
    /// An operator ordered it.
    Operator,
    /// Its device is sick.
    Device,
    /// The cloud recommends to leave the machine, and the worker is set to follow.
    Rebalance,
    /// The cloud takes the machine back.
    Interruption,
}

impl Cause {
    pub const ALL: [Self; 6] = [
        Self::CutOff,
        Self::Shutdown,
        Self::Operator,
        Self::Device,
        Self::Rebalance,
        Self::Interruption,
    ];

    /// One lower-case word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CutOff => "cut-off",
            Self::Shutdown => "shutdown",
            Self::Operator => "operator",
            Self::Device => "device",
            Self::Rebalance => "rebalance",
            Self::Interruption => "interruption",
        }
    }
}

/// What of a notice is kept for the end of the process: the last reports and the end of the engines.
pub const RESERVE: Duration = Duration::from_secs(20);

/// The longest that a cloud announces the loss of a machine ahead. A notice that says more is read with a
/// wrong clock, and this is what counts.
pub const LONGEST_NOTICE: Duration = Duration::from_mins(2);

/// When work has to be over on a machine that is lost at `lost_at`: [`RESERVE`] before, but never later than
/// half way between `now` and then.
#[must_use]
pub fn work_ends(lost_at: Timestamp, now: Timestamp) -> Timestamp {
    let left = lost_at.since(now).min(LONGEST_NOTICE);
    now.after(left.saturating_sub(RESERVE.min(left / 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_millis(seconds * 1_000)
    }

    #[test]
    fn work_ends_before_the_machine_does() {
        assert_eq!(work_ends(at(120), at(0)), at(100), "the usual notice");
        assert_eq!(work_ends(at(10), at(0)), at(5), "a short one is halved");
        assert_eq!(work_ends(at(-50), at(0)), at(0), "one from the past leaves nothing");
        assert_eq!(
            work_ends(at(86_400), at(0)),
            at(100),
            "a clock that is a day off changes little"
        );
    }

    #[test]
    fn names_differ_and_the_cloud_is_the_strongest() {
        let names: std::collections::BTreeSet<_> = Cause::ALL.map(Cause::name).into();
        assert_eq!(names.len(), Cause::ALL.len());
        assert_eq!(Cause::ALL.into_iter().max(), Some(Cause::Interruption));
    }
}
