//! Applies what time brings, after everyone had time to be heard.

use std::time::Duration;

use stoker_core::job::StateKind;
use stoker_core::outbox::is_intact;

use super::super::sabotage::Sabotage;
use super::super::tally::Bite;
use super::super::types::{Lane, Node};
use super::super::world::{Event, World};
use super::{Step, StoreFailed};

/// Sweeps come at least this often.
const TICK: Duration = Duration::from_secs(1);

impl World {
    pub(super) fn plan_sweep(&mut self, node: Node, delay: Duration) {
        let due = self.now().after(delay);
        let Some(own) = self.coordinators.get_mut(node.at) else { return };
        own.sweep_turn += 1;
        own.next_sweep = due;
        let step = Step::Sweep { turn: own.sweep_turn };
        self.schedule.at(due, Event::Coordinator(node, step));
    }

    pub(super) fn sweep(&mut self, node: Node, turn: u64) {
        if self.coordinators.get(node.at).is_none_or(|own| own.sweep_turn != turn) {
            return;
        }
        if self.is(Sabotage::NoSweeper) || !self.leads(node) {
            return self.plan_sweep(node, TICK);
        }
        let pause = self.sweep_round(node).unwrap_or_else(|StoreFailed| {
            // Longer than a tick at times, as backoff is.
            self.random.millis(100, 5_000)
        });
        // In doubt it may have ended itself.
        if self.awake(node).is_ok() {
            self.plan_sweep(node, pause);
        }
    }

    fn sweep_round(&mut self, node: Node) -> Result<Duration, StoreFailed> {
        let mut clock = self.store.clock(self.now());
        if self.is(Sabotage::AmnestyByAnotherClock) {
            clock = self.now();
        }
        let owed = self.coordinators.get(node.at).is_some_and(|own| own.amnesty.is_owed(clock));
        if owed {
            let leases = self.transact(node, |world, now| world.store.grant_amnesty(now))?;
            self.checker.tally.add(Bite::Amnesties, leases);
        }
        let (mut chance, intact) = (self.random.clone(), self.intact());
        let next =
            self.transact(node, |world, now| world.store.sweep(now, &intact, &mut chance))?;
        self.random = chance;
        let swept_at = self.store.clock(self.now());
        self.checker.swept(&self.store, swept_at);
        if let Some(own) = self.coordinators.get_mut(node.at) {
            own.amnesty.swept(clock);
        }
        let until = |at: stoker_core::time::Timestamp| at.since(clock);
        Ok(next.map_or(TICK, |at| until(at).clamp(Duration::from_millis(1), TICK)))
    }

    /// Queues that have lost nothing, as far as their depths tell.
    fn intact(&self) -> Vec<Lane> {
        let dispatched = |lane| self.store.count(lane, &[StateKind::Dispatched]);
        let is_intact = |lane: &Lane| {
            self.broker.depth(*lane).is_some_and(|ready| is_intact(ready, dispatched(*lane)))
        };
        (0..self.setup.lanes).filter(is_intact).collect()
    }
}
