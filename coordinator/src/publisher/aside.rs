//! Queues that do not take their messages, as the coordinator's tasks share them. When each is tried
//! again is [`outbox::Aside`]'s to say.

use std::sync::{Mutex, MutexGuard, PoisonError};

use stoker_broker::PublishError;
use stoker_core::outbox::{self, Standing};
use stoker_core::time::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::store::{Lane, OutboxEntry};

/// The queues; shared between what publishes and what explains why a job waits.
#[derive(Debug)]
pub struct Aside {
    lanes: Mutex<outbox::Aside<Lane>>,
    changed: Notify,
    /// Where the rules' time begins.
    began: Instant,
}

impl Default for Aside {
    fn default() -> Self {
        Self { lanes: Mutex::default(), changed: Notify::new(), began: Instant::now() }
    }
}

impl Aside {
    /// Why the queue's messages wait; `None` for a queue in good standing.
    pub fn problem(&self, lane: &Lane) -> Option<String> {
        self.lanes().problem(lane).map(str::to_owned)
    }

    /// Sets a queue aside, or puts its next trial off further.
    pub(super) fn set(&self, lane: Lane, error: &PublishError, now: Instant) -> Standing {
        let standing = self.lanes().set(lane, error.to_string(), self.time(now));
        if standing == Standing::Lost {
            self.changed.notify_one();
        }
        standing
    }

    /// Takes a queue back; false when it was in good standing.
    pub(super) fn readmit(&self, lane: &Lane) -> bool {
        self.lanes().readmit(lane)
    }

    pub(super) fn lanes_aside(&self) -> Vec<Lane> {
        self.lanes().queues().cloned().collect()
    }

    /// What may be sent at once. The rest stays in the outbox.
    pub(super) fn without_aside(&self, mut entries: Vec<OutboxEntry>) -> Vec<OutboxEntry> {
        let lanes = self.lanes();
        entries.retain(|entry| !lanes.contains(&entry.lane));
        entries
    }

    pub(super) fn next_trial(&self) -> Option<Instant> {
        let start = Timestamp::default();
        self.lanes().next_trial().map(|at| self.began + at.since(start))
    }

    /// Some of the queues whose time has come.
    pub(super) fn due(&self, now: Instant) -> Vec<Lane> {
        self.lanes().due(self.time(now))
    }

    /// Waits until a queue is set aside.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// To the millisecond; what is left of one is waited for with the next.
    fn time(&self, now: Instant) -> Timestamp {
        Timestamp::default().after(now.saturating_duration_since(self.began))
    }

    fn lanes(&self) -> MutexGuard<'_, outbox::Aside<Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
