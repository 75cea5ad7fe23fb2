//! Queues that do not take their messages, and when each is tried again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stoker_broker::PublishError;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::store::{Lane, OutboxEntry};

/// Before the first trial; doubles with each that fails.
const FIRST: Duration = Duration::from_millis(200);
/// A queue that works again is noticed within this time.
const LONGEST: Duration = Duration::from_secs(5);
/// Queues tried at the same time: each may take as long as a publish may.
const AT_ONCE: usize = 16;

/// The queues; shared between what publishes and what explains why a job waits.
#[derive(Debug, Default)]
pub struct Aside {
    lanes: Mutex<BTreeMap<Lane, Trial>>,
    changed: Notify,
}

#[derive(Debug)]
struct Trial {
    at: Instant,
    delay: Duration,
    problem: String,
}

impl Aside {
    /// Why the queue's messages wait; `None` for a queue in good standing.
    pub fn problem(&self, lane: &Lane) -> Option<String> {
        self.lanes().get(lane).map(|trial| trial.problem.clone())
    }

    /// Sets a queue aside, or puts its next trial off further; true when it was in good standing.
    pub(super) fn set(&self, lane: Lane, error: &PublishError, now: Instant) -> bool {
        let problem = error.to_string();
        let mut lanes = self.lanes();
        let newly = match lanes.get_mut(&lane) {
            // Messages that were under way when it was set aside say nothing new.
            Some(trial) if trial.at > now => false,
            Some(trial) => {
                let delay = (trial.delay * 2).min(LONGEST);
                *trial = Trial { at: now + delay, delay, problem };
                false
            }
            None => {
                lanes.insert(lane, Trial { at: now + FIRST, delay: FIRST, problem });
                true
            }
        };
        drop(lanes);
        if newly {
            self.changed.notify_one();
        }
        newly
    }

    /// Takes a queue back; false when it was in good standing.
    pub(super) fn readmit(&self, lane: &Lane) -> bool {
        self.lanes().remove(lane).is_some()
    }

    pub(super) fn lanes_aside(&self) -> Vec<Lane> {
        self.lanes().keys().cloned().collect()
    }

    /// What may be sent at once. The rest stays in the outbox.
    pub(super) fn without_aside(&self, mut entries: Vec<OutboxEntry>) -> Vec<OutboxEntry> {
        let lanes = self.lanes();
        if !lanes.is_empty() {
            entries.retain(|entry| !lanes.contains_key(&entry.lane));
        }
        entries
    }

    pub(super) fn next_trial(&self) -> Option<Instant> {
        self.lanes().values().map(|trial| trial.at).min()
    }

    /// Some of the queues whose time has come.
    pub(super) fn due(&self, now: Instant) -> Vec<Lane> {
        let lanes = self.lanes();
        let due = lanes.iter().filter(|(_, trial)| trial.at <= now);
        due.map(|(lane, _)| lane.clone()).take(AT_ONCE).collect()
    }

    /// Waits until a queue is set aside.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<Lane, Trial>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
