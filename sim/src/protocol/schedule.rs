//! Virtual time: events in the order of their times, and of their making at the same time.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::time::Timestamp;

/// What is to happen, and when.
#[derive(Debug)]
pub(super) struct Schedule<E> {
    events: BTreeMap<(Timestamp, u64), E>,
    next: u64,
    now: Timestamp,
}

impl<E> Schedule<E> {
    pub(super) fn new(start: Timestamp) -> Self {
        Self { events: BTreeMap::new(), next: 0, now: start }
    }

    pub(super) const fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn after(&mut self, delay: Duration, event: E) {
        self.at(self.now.after(delay), event);
    }

    pub(super) fn at(&mut self, at: Timestamp, event: E) {
        self.events.insert((at.max(self.now), self.next), event);
        self.next += 1;
    }

    /// The next event; its time is now.
    pub(super) fn pop(&mut self) -> Option<E> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }
}
