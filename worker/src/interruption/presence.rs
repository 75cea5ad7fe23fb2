//! Whether there is a metadata service, as far as its answers tell, and when to ask next. No I/O.

use std::time::Duration;

/// Between two questions to a service that is there. A notice is two minutes long.
const WATCH: Duration = Duration::from_secs(2);

/// Between the first questions: the network of a machine may come up after this process.
const PROBE: Duration = Duration::from_secs(1);

/// Failures at the start after which there is no service here.
const PROBES: u32 = 5;

/// Between questions to a service that never answered.
const ABSENT: Duration = Duration::from_mins(1);

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Answered,
    Unanswered,
}

/// What is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It never answered, after so many questions.
    Unknown {
        failures: u32,
    },
    Absent,
    Present,
    /// It has answered before, and does not now.
    Faulty,
}

/// What is to be told of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    Nothing,
    Watching,
    Absent,
    Faulty,
    StillFaulty,
}

/// What follows from an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) delay: Duration,
    pub(super) tell: Tell,
}

impl Default for Presence {
    fn default() -> Self {
        Self::Unknown { failures: 0 }
    }
}

impl Presence {
    /// After a question.
    pub(super) const fn after(&mut self, question: Question) -> Next {
        use Question::{Answered, Unanswered};
        let (presence, delay, tell) = match (*self, question) {
            (Self::Present, Answered) => (Self::Present, WATCH, Tell::Nothing),
            (Self::Unknown { .. } | Self::Absent | Self::Faulty, Answered) => {
                (Self::Present, WATCH, Tell::Watching)
            }
            (Self::Unknown { failures }, Unanswered) if failures + 1 < PROBES => {
                (Self::Unknown { failures: failures + 1 }, PROBE, Tell::Nothing)
            }
            (Self::Unknown { .. }, Unanswered) => (Self::Absent, ABSENT, Tell::Absent),
            (Self::Absent, Unanswered) => (Self::Absent, ABSENT, Tell::Nothing),
            (Self::Present, Unanswered) => (Self::Faulty, WATCH, Tell::Faulty),
            (Self::Faulty, Unanswered) => (Self::Faulty, WATCH, Tell::StillFaulty),
        };
        *self = presence;
        Next { delay, tell }
    }
}

#[cfg(test)]
mod tests {
    use super::Question::{Answered, Unanswered};
    use super::*;

    fn tells(questions: &[Question]) -> Vec<Tell> {
        let mut presence = Presence::default();
        questions.iter().map(|question| presence.after(*question).tell).collect()
    }

    #[test]
    fn a_machine_without_a_service_is_told_of_once_and_asked_rarely() {
        let mut presence = Presence::default();
        let nexts: Vec<Next> = (0..8).map(|_| presence.after(Unanswered)).collect();
        assert!(nexts[..4].iter().all(|next| *next == Next { delay: PROBE, tell: Tell::Nothing }));
        assert_eq!(nexts[4], Next { delay: ABSENT, tell: Tell::Absent });
        assert!(nexts[5..].iter().all(|next| *next == Next { delay: ABSENT, tell: Tell::Nothing }));
        assert_eq!(
            presence.after(Answered),
            Next { delay: WATCH, tell: Tell::Watching },
            "came late"
        );
    }

    #[test]
    fn a_service_that_was_there_is_never_given_up() {
        let questions = [Unanswered, Answered, Answered, Unanswered, Unanswered, Answered];
        let expected = [
            Tell::Nothing,
            Tell::Watching,
            Tell::Nothing,
            Tell::Faulty,
            Tell::StillFaulty,
            Tell::Watching,
        ];
        assert_eq!(tells(&questions), expected);
        let mut presence = Presence::Present;
        assert!((0..1_000).all(|_| presence.after(Unanswered).delay == WATCH));
    }
}
