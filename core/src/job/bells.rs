//! Who has to be woken by a committed change of a job.
//!
//! A wake-up saves waiting and nothing else: whoever sleeps looks again by itself.

use crate::time::Timestamp;

use super::event::Effect;
use super::state::StateKind;

/// What a change rings for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bells {
    /// Work may have become releasable: a job waits, or there is room.
    pub dispatcher: bool,
    /// The outbox holds a message that the dispatcher did not hand over itself.
    pub outbox: bool,
    /// Something is due by then, perhaps earlier than the sweeper knows.
    pub sweeper: Option<Timestamp>,
}

impl Bells {
    /// Of a job that went `from` one state (`None`: a new job) `to` another.
    pub fn of(from: Option<StateKind>, to: StateKind, effects: &[Effect]) -> Self {
        let mut bells = Self { dispatcher: makes_releasable(from, to), ..Self::default() };
        for effect in effects {
            match *effect {
                // The same commit put it into the outbox. The dispatcher hands its own over.
                Effect::Publish { .. } => bells.outbox |= from == Some(StateKind::Dispatched),
                Effect::StopAttempt { .. } => {}
                Effect::WakeDispatcher => bells.dispatcher = true,
                Effect::WakeSweeper { at } => bells = bells.and(Self::sweep_by(at)),
            }
        }
        bells
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            dispatcher: self.dispatcher | other.dispatcher,
            outbox: self.outbox | other.outbox,
            sweeper: self.sweeper.into_iter().chain(other.sweeper).min(),
        }
    }

    fn sweep_by(at: Timestamp) -> Self {
        Self { sweeper: Some(at), ..Self::default() }
    }
}

/// Whether the change put a job into the waiting line, or made room in a window.
fn makes_releasable(from: Option<StateKind>, to: StateKind) -> bool {
    let in_flight = |state| matches!(state, StateKind::Dispatched | StateKind::Leased);
    to == StateKind::Queued || (from.is_some_and(in_flight) && !in_flight(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::DispatchSeq;

    #[test]
    fn the_dispatcher_wakes_for_new_work_and_for_new_room() {
        use StateKind::{Cancelled, Dispatched, Leased, Queued, RetryWait, Succeeded};
        for (from, to, dispatcher) in [
            (None, Queued, true),
            (Some(Leased), Queued, true),
            (Some(RetryWait), Queued, true),
            (Some(Leased), Succeeded, true),
            (Some(Dispatched), Cancelled, true),
            (Some(Queued), Dispatched, false),
            (Some(Dispatched), Leased, false),
            (Some(Leased), Leased, false),
            (Some(Queued), Cancelled, false),
        ] {
            let expected = Bells { dispatcher, ..Bells::default() };
            assert_eq!(Bells::of(from, to, &[]), expected, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn a_redispatch_rings_for_the_outbox_but_a_dispatch_does_not() {
        let publish = [Effect::Publish { seq: DispatchSeq::new(1) }];
        let dispatched = StateKind::Dispatched;
        assert!(!Bells::of(Some(StateKind::Queued), dispatched, &publish).outbox);
        assert!(Bells::of(Some(dispatched), dispatched, &publish).outbox);
    }

    #[test]
    fn the_earliest_time_counts() {
        let at = |millis| Timestamp::from_unix_millis(millis);
        let effects = [30, 10].map(|millis| Effect::WakeSweeper { at: at(millis) });
        let bells = Bells::of(Some(StateKind::Leased), StateKind::RetryWait, &effects);
        assert_eq!(bells.and(Bells::sweep_by(at(20))).sweeper, Some(at(10)));
    }
}
