//! When a worker that ended is started again. Pure.

use std::time::Duration;

use stoker_runtime::child::Ending;

/// A process that lived longer than this was well: what ended it starts a new count.
const STABLE: Duration = Duration::from_secs(30);

const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Times in a row that a process may end by itself right after its start.
const MAX_STRIKES: u32 = 6;

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    StartAfter(Duration),
    /// It was asked to go (drained), so it stays away.
    LeaveBe,
    /// It cannot work: its log says why.
    GiveUp,
}

/// How one process fared so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct History {
    endings_in_a_row: u32,
    strikes: u32,
}

impl History {
    /// Takes note of an ending after a life of `lived` and decides.
    pub(crate) fn ended(&mut self, ending: Ending, lived: Duration) -> Decision {
        if lived >= STABLE {
            *self = Self::default();
        }
        match ending {
            Ending::Exited(0) => return Decision::LeaveBe,
            Ending::Exited(_) => self.strikes += 1,
            // Somebody kills it from outside, which is what `stoker dev` is there to try out.
            Ending::Killed(_) => {}
        }
        if self.strikes >= MAX_STRIKES {
            return Decision::GiveUp;
        }
        let doubled = FIRST_DELAY.saturating_mul(1 << self.endings_in_a_row.min(16));
        self.endings_in_a_row += 1;
        Decision::StartAfter(doubled.min(LONGEST_DELAY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_secs(1);

    #[test]
    fn delays_grow_to_a_limit() {
        let mut history = History::default();
        let mut delay = || match history.ended(Ending::Killed(9), QUICK) {
            Decision::StartAfter(delay) => delay,
            other => panic!("{other:?}"),
        };
        let delays: Vec<_> = (0..1_000).map(|_| delay()).collect();
        assert_eq!(delays[..3], [200, 400, 800].map(Duration::from_millis));
        assert!(delays.is_sorted());
        assert_eq!(delays[999], LONGEST_DELAY);
    }

    #[test]
    fn a_process_that_cannot_start_is_given_up() {
        let mut history = History::default();
        for _ in 1..MAX_STRIKES {
            assert!(matches!(history.ended(Ending::Exited(1), QUICK), Decision::StartAfter(_)));
        }
        assert_eq!(history.ended(Ending::Exited(1), QUICK), Decision::GiveUp);
    }

    #[test]
    fn a_long_life_starts_a_new_count() {
        let mut history = History::default();
        for _ in 0..100 {
            let decision = history.ended(Ending::Exited(1), STABLE);
            assert_eq!(decision, Decision::StartAfter(FIRST_DELAY));
        }
    }

    #[test]
    fn a_drained_worker_stays_away() {
        assert_eq!(History::default().ended(Ending::Exited(0), QUICK), Decision::LeaveBe);
    }
}
