//! What follows from a committed change: wake whoever waits for it, tell workers, count.
//!
//! The store calls the listener on its writer thread, so nothing here waits or does I/O.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use stoker_core::fleet::Class;
use stoker_core::ids::ClassName;
use stoker_core::job::{Bells, Effect, StateKind};
use stoker_core::time::Timestamp;
use stoker_runtime::crash;
use tokio::sync::Notify;

use crate::metrics;
use crate::registry::Registry;
use crate::store::{Change, ChangeListener, Origin};
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
    classes: BTreeMap<ClassName, Class>,
}

impl Events {
    /// `classes` are those of the fleet file: what was promised is counted as kept or broken.
    pub fn new(
        registry: Arc<Registry>,
        hub: Arc<Hub>,
        classes: BTreeMap<ClassName, Class>,
    ) -> Arc<Self> {
        metrics::promises(&classes);
        Arc::new(Self {
            dispatcher: Notify::new(),
            sweeper: Notify::new(),
            outbox: Notify::new(),
            sweep_at: Mutex::new(None),
            registry,
            hub,
            classes,
        })
    }

    /// What the store is to call with every committed change.
    pub fn listener(self: &Arc<Self>) -> ChangeListener {
        let events = Arc::clone(self);
        Arc::new(move |changes: &[Change], origin| events.committed(changes, origin))
    }

    /// Other coordinators' changes may have been missed: everybody has to look.
    pub fn missed(&self) {
        self.hub.all_changed();
        self.dispatcher.notify_one();
        self.outbox.notify_one();
        self.sweeper.notify_one();
    }

    /// The earliest time the sweeper was asked for since the last call.
    pub fn take_sweep_at(&self) -> Option<Timestamp> {
        self.sweep_at.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn committed(&self, changes: &[Change], origin: Origin) {
        crash::point("events.before");
        // Each coordinator counts its own, so that a sum over all counts each once.
        if origin == Origin::Here {
            metrics::changed(changes, &self.classes);
        }
        let mut bells = Bells::default();
        for change in changes {
            bells = bells.and(Bells::of(change.from, change.to, &change.effects));
            for effect in &change.effects {
                if let Effect::StopAttempt { worker, attempt } = *effect {
                    let reason = stop_reason(change.to);
                    self.registry.stop_attempt(worker, change.job, attempt, reason);
                }
            }
        }
        self.hub.changed(changes.iter().map(|change| change.job));
        if bells.dispatcher {
            self.dispatcher.notify_one();
        }
        if bells.outbox {
            self.outbox.notify_one();
        }
        if let Some(at) = bells.sweeper {
            self.sweep_by(at);
        }
        crash::point("events.after");
    }

    fn sweep_by(&self, at: Timestamp) {
        let mut earliest = self.sweep_at.lock().unwrap_or_else(PoisonError::into_inner);
        *earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
        drop(earliest);
        self.sweeper.notify_one();
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use stoker_core::ids::{Attempt, ClassName, JobId, ModelName, PoolName, WorkerId};
    use stoker_runtime::clock::ManualClock;

    use super::*;
    use crate::registry::{Command, Registration};
    use crate::store::Lane;

    fn events() -> (Arc<Events>, Arc<Registry>, Arc<Hub>) {
        let registry = Registry::new(Arc::new(ManualClock::default()), Duration::from_secs(30));
        let hub = Hub::new();
        (Events::new(Arc::clone(&registry), Arc::clone(&hub), BTreeMap::new()), registry, hub)
    }

    fn lane() -> Lane {
        Lane { pool: PoolName::new("cpu").unwrap(), model: ModelName::new("mini").unwrap() }
    }

    fn change(from: Option<StateKind>, to: StateKind, effects: Vec<Effect>) -> Change {
        let job = JobId::from_bytes([1; 16]);
        let class = ClassName::new("standard").unwrap();
        Change { job, class, lane: lane(), from, to, effects, waited: None }
    }

    /// Which of dispatcher, sweeper and outbox a change rings.
    fn rings(from: Option<StateKind>, to: StateKind, effects: Vec<Effect>) -> [bool; 3] {
        let (events, _, _) = events();
        events.listener()(&[change(from, to, effects)], Origin::Here);
        [&events.dispatcher, &events.sweeper, &events.outbox]
            .map(|bell| bell.notified().now_or_never().is_some())
    }

    #[test]
    fn a_change_rings_for_whoever_waits_for_it() {
        let (queued, dispatched) = (StateKind::Queued, StateKind::Dispatched);
        let publish = || vec![Effect::Publish { seq: stoker_core::ids::DispatchSeq::new(1) }];
        assert_eq!(rings(None, queued, vec![]), [true, false, false]);
        assert_eq!(rings(Some(queued), dispatched, publish()), [false, false, false]);
        assert_eq!(rings(Some(dispatched), dispatched, publish()), [false, false, true]);
    }

    #[test]
    fn the_sweeper_learns_the_earliest_time() {
        let (events, _, _) = events();
        let at = |millis| Timestamp::from_unix_millis(millis);
        let due = |millis| {
            let effects = vec![Effect::WakeSweeper { at: at(millis) }];
            change(Some(StateKind::Leased), StateKind::RetryWait, effects)
        };
        events.listener()(&[due(30), due(10)], Origin::Here);
        events.listener()(&[due(20)], Origin::Here);
        assert!(events.sweeper.notified().now_or_never().is_some());
        assert_eq!(events.take_sweep_at(), Some(at(10)));
        assert_eq!(events.take_sweep_at(), None);
    }

    #[tokio::test]
    async fn workers_are_told_to_stop_and_watchers_of_every_change() {
        let (events, registry, hub) = events();
        let id = WorkerId::from_bytes([2; 16]);
        let registration = Registration {
            id,
            pool: lane().pool,
            models: vec![lane().model],
            slots: 1,
            version: String::new(),
            host: String::new(),
            pid: 1,
            device: String::new(),
            metrics_address: String::new(),
            instance: None,
        };
        let mut stream = registry.register(registration).unwrap();
        let job = JobId::from_bytes([1; 16]);
        let watcher = hub.subscribe(&[job]);
        let attempt = Attempt::FIRST;
        let effects = vec![Effect::StopAttempt { worker: id, attempt }];
        events.listener()(
            &[change(Some(StateKind::Leased), StateKind::Expired, effects)],
            Origin::Elsewhere,
        );
        let reason = "the job's deadline passed";
        let stop = Command::StopAttempt { job, attempt, reason };
        assert_eq!(stream.commands.recv().await, Some(stop));
        assert_eq!(watcher.changed().await.into_iter().collect::<Vec<_>>(), [job]);
    }
}
