//! The dead man's switch: a machine that nobody can use and nobody can reach shuts itself down.
//!
//! It is the last net under whoever started the machine and would have to end it. Both signs must have held for
//! the whole time: a worker that computes is of use to somebody, and one that the coordinator reaches can be
//! told to go.

use std::time::Duration;

use crate::time::Timestamp;

/// How long to wait for a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadMan {
    pub after: Duration,
}

/// What is known of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signs {
    /// Since when it has run nothing; `None`: something runs.
    pub idle_since: Option<Timestamp>,
    /// When the coordinator last answered; before it ever did, when the worker started.
    pub last_contact: Timestamp,
}

/// Whether to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Something runs.
    Stay,
    /// Look again then, unless something happens before.
    LookAt(Timestamp),
    /// Idle and cut off for the whole time.
    Go,
}

impl DeadMan {
    /// Decides at `now`.
    #[must_use]
    pub fn decide(self, signs: Signs, now: Timestamp) -> Verdict {
        let Some(idle_since) = signs.idle_since else { return Verdict::Stay };
        let due = idle_since.max(signs.last_contact).after(self.after);
        if due <= now { Verdict::Go } else { Verdict::LookAt(due) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SWITCH: DeadMan = DeadMan { after: Duration::from_mins(10) };

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_unix_millis(minutes * 60_000)
    }

    fn decide(idle_since: Option<i64>, last_contact: i64, now: i64) -> Verdict {
        let signs = Signs { idle_since: idle_since.map(at), last_contact: at(last_contact) };
        SWITCH.decide(signs, at(now))
    }

    #[test]
    fn it_takes_both_signs_for_the_whole_time() {
        assert_eq!(decide(Some(0), 0, 9), Verdict::LookAt(at(10)));
        assert_eq!(decide(Some(0), 0, 10), Verdict::Go);
        assert_eq!(decide(None, 0, 1_000), Verdict::Stay, "it runs something");
        assert_eq!(decide(Some(0), 100, 105), Verdict::LookAt(at(110)), "heard of it lately");
        assert_eq!(decide(Some(100), 0, 105), Verdict::LookAt(at(110)), "worked lately");
        assert_eq!(decide(Some(100), 0, 110), Verdict::Go);
    }

    proptest! {
        #[test]
        fn it_never_goes_early(idle in 0_i64..1_000, contact in 0_i64..1_000, now in 0_i64..1_000) {
            match decide(Some(idle), contact, now) {
                Verdict::Go => prop_assert!(now - idle >= 10 && now - contact >= 10),
                Verdict::LookAt(time) => prop_assert!(time > at(now)),
                Verdict::Stay => prop_assert!(false, "it is idle"),
            }
        }
    }
}
