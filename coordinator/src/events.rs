//! What follows from a committed change: wake whoever waits for it, tell workers, count.
//!
//! The store calls the listener on its writer thread, so nothing here waits or does I/O.

use std::sync::{Arc, Mutex, PoisonError};

use stoker_core::job::{Effect, StateKind};
use stoker_core::time::Timestamp;
use tokio::sync::Notify;

use crate::metrics;
use crate::registry::Registry;
use crate::store::{Change, ChangeListener};
use crate::watch::Hub;

/// Routes changes to the parts of the coordinator that act on them.
#[derive(Debug)]
pub struct Events {
    /// Rung when work may have become releasable: a job waits, or there is room or capacity.
    pub dispatcher: Notify,
    /// Rung when something is due earlier than the sweeper may know; see [`Events::take_sweep_at`].
    pub sweeper: Notify,
    /// Rung when the outbox holds messages that the dispatcher did not hand over itself.
    pub outbox: Notify,
    sweep_at: Mutex<Option<Timestamp>>,
    registry: Arc<Registry>,
    hub: Arc<Hub>,
}

impl Events {
    pub fn new(registry: Arc<Registry>, hub: Arc<Hub>) -> Arc<Self> {
        Arc::new(Self {
            dispatcher: Notify::new(),
            sweeper: Notify::new(),
            outbox: Notify::new(),
            sweep_at: Mutex::new(None),
            registry,
            hub,
        })
    }

    /// What the store is to call with every committed change.
    pub fn listener(self: &Arc<Self>) -> ChangeListener {
        let events = Arc::clone(self);
        Arc::new(move |changes: &[Change]| events.committed(changes))
    }

    /// The earliest time the sweeper was asked for since the last call.
    pub fn take_sweep_at(&self) -> Option<Timestamp> {
        self.sweep_at.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn committed(&self, changes: &[Change]) {
        let mut releasable = false;
        let mut republish = false;
        let mut sweep_at: Option<Timestamp> = None;
        for change in changes {
            metrics::changed(change);
            releasable |= makes_releasable(change);
            for effect in &change.effects {
                match *effect {
                    // The same commit put it into the outbox. The dispatcher hands its own over.
                    Effect::Publish { .. } => {
                        republish |= change.from == Some(StateKind::Dispatched);
                    }
                    Effect::StopAttempt { worker, attempt } => {
                        let reason = stop_reason(change.to);
                        self.registry.stop_attempt(worker, change.job, attempt, reason);
                    }
                    Effect::WakeDispatcher => releasable = true,
                    Effect::WakeSweeper { at } => {
                        sweep_at = Some(sweep_at.map_or(at, |earliest| earliest.min(at)));
                    }
                }
            }
        }
        self.hub.changed(changes.iter().map(|change| change.job));
        if releasable {
            self.dispatcher.notify_one();
        }
        if republish {
            self.outbox.notify_one();
        }
        if let Some(at) = sweep_at {
            self.sweep_by(at);
        }
    }

    fn sweep_by(&self, at: Timestamp) {
        let mut earliest = self.sweep_at.lock().unwrap_or_else(PoisonError::into_inner);
        *earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
        drop(earliest);
        self.sweeper.notify_one();
    }
}

/// Whether the change put a job into the waiting line, or made room in a window.
fn makes_releasable(change: &Change) -> bool {
    let in_flight = |state| matches!(state, StateKind::Dispatched | StateKind::Leased);
    change.to == StateKind::Queued || (change.from.is_some_and(in_flight) && !in_flight(change.to))
}

/// Why an attempt is to stop, from what became of its job.
fn stop_reason(to: StateKind) -> &'static str {
    match to {
        StateKind::Leased | StateKind::Cancelled => "the job was cancelled",
        StateKind::Succeeded => "another attempt's result was stored first",
        StateKind::Expired => "the job's deadline passed",
        StateKind::Failed | StateKind::RetryWait => "the attempt ran longer than is allowed",
        StateKind::Queued | StateKind::Dispatched => "the job was given to another worker",
    }
}
