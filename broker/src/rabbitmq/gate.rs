//! Keeps one queue that does not confirm from holding up all the others.
//!
//! A quorum queue without a leader (its majority is gone, or it did not recover) takes messages
//! and never confirms them, while the broker and every other queue are well. Such a queue is
//! left alone for a while and then tried with one run of messages.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::message::Queue;

/// How long a queue that did not confirm is left alone.
const PAUSE: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Queues that did not confirm, with the time of the next trial.
    stuck: BTreeMap<Queue, Instant>,
}

/// What may be published to a queue now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Open,
    /// One run, apart from other queues' messages.
    Trial,
    Closed,
}

/// Whether a late message was the fault of its queue. The broker handles a channel's messages one
/// after the other, so that one queue can hold up another's message behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    Certain,
    /// Others were in the same window: a trial finds out.
    Shared,
}

impl Gate {
    /// A trial that is admitted must end in [`Gate::late`] or [`Gate::confirmed`] within
    /// `trial_limit`; until then there is no other.
    pub(super) fn admit(
        &mut self,
        queue: &Queue,
        now: Instant,
        trial_limit: Duration,
    ) -> Admission {
        match self.stuck.get_mut(queue) {
            None => Admission::Open,
            Some(next_trial) if *next_trial <= now => {
                *next_trial = now + trial_limit;
                Admission::Trial
            }
            Some(_) => Admission::Closed,
        }
    }

    /// A publish to `queue` was not confirmed in time. True when that is news.
    pub(super) fn late(&mut self, queue: &Queue, blame: Blame, now: Instant) -> bool {
        let next_trial = match blame {
            Blame::Certain => now + PAUSE,
            Blame::Shared => now,
        };
        self.stuck.insert(queue.clone(), next_trial).is_none()
    }

    /// A publish to `queue` was confirmed. True when it was stuck before.
    pub(super) fn confirmed(&mut self, queue: &Queue) -> bool {
        self.stuck.remove(queue).is_some()
    }

    /// What was learned on another connection no longer counts.
    pub(super) fn reset(&mut self) {
        self.stuck.clear();
    }
}

#[cfg(test)]
mod tests {
    use stoker_core::ids::{ModelName, PoolName};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn queue(model: &str) -> Queue {
        Queue { pool: PoolName::new("cpu").unwrap(), model: ModelName::new(model).unwrap() }
    }

    #[test]
    fn a_stuck_queue_is_left_alone_and_then_tried_once_at_a_time() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        let (stuck, well) = (queue("stuck"), queue("well"));
        assert_eq!(gate.admit(&stuck, start, LIMIT), Admission::Open);
        assert!(gate.late(&stuck, Blame::Certain, start));
        assert!(!gate.late(&stuck, Blame::Certain, start), "no news");
        assert_eq!(gate.admit(&stuck, start + PAUSE / 2, LIMIT), Admission::Closed);
        assert_eq!(gate.admit(&well, start, LIMIT), Admission::Open);
        let trial = start + PAUSE;
        assert_eq!(gate.admit(&stuck, trial, LIMIT), Admission::Trial);
        assert_eq!(gate.admit(&stuck, trial, LIMIT), Admission::Closed);
        // A trial whose outcome never came does not close the queue for ever.
        assert_eq!(gate.admit(&stuck, trial + LIMIT, LIMIT), Admission::Trial);
        assert!(gate.confirmed(&stuck));
        assert!(!gate.confirmed(&stuck));
        assert_eq!(gate.admit(&stuck, trial, LIMIT), Admission::Open);
    }

    #[test]
    fn a_failed_trial_starts_another_pause() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        let stuck = queue("stuck");
        gate.late(&stuck, Blame::Certain, start);
        assert_eq!(gate.admit(&stuck, start + PAUSE, LIMIT), Admission::Trial);
        gate.late(&stuck, Blame::Certain, start + PAUSE + LIMIT);
        assert_eq!(gate.admit(&stuck, start + PAUSE + LIMIT, LIMIT), Admission::Closed);
        gate.reset();
        assert_eq!(gate.admit(&stuck, start, LIMIT), Admission::Open);
    }

    #[test]
    fn queues_that_share_the_blame_are_tried_apart_at_once() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        let queues = [queue("a"), queue("b")];
        for queue in &queues {
            assert!(gate.late(queue, Blame::Shared, start));
        }
        for queue in &queues {
            assert_eq!(gate.admit(queue, start, LIMIT), Admission::Trial);
        }
        gate.late(&queues[0], Blame::Certain, start + LIMIT);
        gate.confirmed(&queues[1]);
        assert_eq!(gate.admit(&queues[0], start + LIMIT, LIMIT), Admission::Closed);
        assert_eq!(gate.admit(&queues[1], start + LIMIT, LIMIT), Admission::Open);
    }
}
