//! Queues that do not take their messages, and when each is tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Timestamp;

/// Before the first trial; doubles with each that fails.
const FIRST: Duration = Duration::from_millis(200);
/// A queue that works again is noticed within this time.
const LONGEST: Duration = Duration::from_secs(5);
/// Queues tried at the same time: each may take as long as a publish may.
const AT_ONCE: usize = 16;

/// What became of a queue's standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was in good standing, and is set aside now.
    Lost,
    /// It was set aside before.
    StillAside,
}

/// The queues that are set aside: their messages wait, and hold up no other queue.
#[derive(Debug, Clone)]
pub struct Aside<Q> {
    queues: BTreeMap<Q, Trial>,
}

#[derive(Debug, Clone)]
struct Trial {
    at: Timestamp,
    delay: Duration,
    problem: String,
}

impl<Q> Default for Aside<Q> {
    fn default() -> Self {
        Self { queues: BTreeMap::new() }
    }
}

impl<Q: Ord + Clone> Aside<Q> {
    /// Why the queue's messages wait; `None` for a queue in good standing.
    pub fn problem(&self, queue: &Q) -> Option<&str> {
        self.queues.get(queue).map(|trial| trial.problem.as_str())
    }

    pub fn contains(&self, queue: &Q) -> bool {
        self.queues.contains_key(queue)
    }

    /// All of them, in order.
    pub fn queues(&self) -> impl Iterator<Item = &Q> {
        self.queues.keys()
    }

    /// Sets a queue aside, or puts its next trial off further.
    pub fn set(&mut self, queue: Q, problem: String, now: Timestamp) -> Standing {
        match self.queues.get_mut(&queue) {
            // Messages that were under way when it was set aside say nothing new.
            Some(trial) if trial.at > now => Standing::StillAside,
            Some(trial) => {
                let delay = (trial.delay * 2).min(LONGEST);
                *trial = Trial { at: now.after(delay), delay, problem };
                Standing::StillAside
            }
            None => {
                self.queues.insert(queue, Trial { at: now.after(FIRST), delay: FIRST, problem });
                Standing::Lost
            }
        }
    }

    /// Takes a queue back; false when it was in good standing.
    pub fn readmit(&mut self, queue: &Q) -> bool {
        self.queues.remove(queue).is_some()
    }

    /// When the next one is to be tried.
    pub fn next_trial(&self) -> Option<Timestamp> {
        self.queues.values().map(|trial| trial.at).min()
    }

    /// Some of the queues whose time has come.
    pub fn due(&self, now: Timestamp) -> Vec<Q> {
        let due = self.queues.iter().filter(|(_, trial)| trial.at <= now);
        due.map(|(queue, _)| queue.clone()).take(AT_ONCE).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(millis)
    }

    fn set(aside: &mut Aside<u32>, queue: u32, now: i64) -> Standing {
        aside.set(queue, format!("since {now}"), at(now))
    }

    #[test]
    fn trials_of_a_queue_grow_rarer_up_to_a_bound_and_it_is_taken_back() {
        let mut aside = Aside::default();
        assert_eq!(set(&mut aside, 1, 0), Standing::Lost);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let now = aside.next_trial().unwrap();
            assert_eq!(aside.due(now), [1]);
            assert_eq!(aside.set(1, String::new(), now), Standing::StillAside);
            pauses.push(aside.next_trial().unwrap().since(now).as_millis());
        }
        assert_eq!(pauses, [400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
        assert!(aside.readmit(&1) && !aside.readmit(&1));
        assert_eq!((aside.next_trial(), aside.contains(&1)), (None, false));
        assert_eq!(set(&mut aside, 1, 0), Standing::Lost);
        assert_eq!(aside.next_trial(), Some(at(200)));
    }

    #[test]
    fn late_news_of_a_queue_that_is_set_aside_changes_nothing() {
        let mut aside = Aside::default();
        set(&mut aside, 1, 0);
        assert_eq!(set(&mut aside, 1, 199), Standing::StillAside);
        assert_eq!(aside.next_trial(), Some(at(200)));
        assert_eq!(aside.problem(&1), Some("since 0"));
    }

    #[test]
    fn queues_are_tried_each_in_its_time_and_not_all_at_once() {
        let mut aside = Aside::default();
        set(&mut aside, 1, 0);
        set(&mut aside, 2, 100);
        assert_eq!(aside.due(at(199)), [0; 0]);
        assert_eq!(aside.due(at(200)), [1]);
        assert_eq!(aside.due(at(300)), [1, 2]);
        (3..40).for_each(|queue| {
            set(&mut aside, queue, 0);
        });
        assert_eq!(aside.due(at(300)).len(), AT_ONCE);
        assert_eq!(aside.queues().count(), 39);
    }
}
