//! Fills windows: chooses, commits, hands over to the publisher.

use std::time::Duration;

use stoker_core::dispatch::{choose, free_places};
use stoker_core::ids::JobId;
use stoker_core::job::StateKind;
use stoker_core::window::{self, WindowPolicy};

use super::super::sabotage::Sabotage;
use super::super::types::{Lane, Node, number};
use super::super::world::{Event, World};
use super::{Filling, Step, StoreFailed};

/// Jobs of one commit: few, so that a backlog needs several.
const BATCH: u32 = 16;
/// The dispatcher looks around at least this often.
const TICK: Duration = Duration::from_secs(1);

impl World {
    /// Work may have become releasable.
    pub(in super::super) fn ring_fill(&mut self, node: Node) {
        let Some(own) = self.coordinators.get_mut(node.at) else { return };
        match own.filling {
            Filling::UnderWay | Filling::Again => own.filling = Filling::Again,
            Filling::Idle => self.plan_fill(node, Duration::ZERO),
        }
    }

    fn plan_fill(&mut self, node: Node, delay: Duration) {
        let Some(own) = self.coordinators.get_mut(node.at) else { return };
        own.fill_turn += 1;
        let step = Step::Fill { turn: own.fill_turn, lane: 0 };
        self.schedule.after(delay, Event::Coordinator(node, step));
    }

    pub(super) fn fill(&mut self, node: Node, turn: u64, lane: Lane) {
        let Some(own) = self.coordinators.get_mut(node.at) else { return };
        if own.fill_turn != turn {
            return;
        }
        own.filling = Filling::Idle;
        if !self.leads(node) || self.store_away_until > self.now() {
            return self.plan_fill(node, TICK);
        }
        for lane in lane..self.setup.lanes {
            let chosen = self.choose(node, lane);
            if chosen.is_empty() {
                continue;
            }
            if let Some(own) = self.coordinators.get_mut(node.at) {
                own.filling = Filling::UnderWay;
            }
            let delay = self.random.millis(1, 10);
            let step = Step::CommitChosen { lane, chosen };
            return self.schedule.after(delay, Event::Coordinator(node, step));
        }
        self.plan_fill(node, TICK);
    }

    fn choose(&mut self, node: Node, lane: Lane) -> Vec<JobId> {
        if self.store.count(lane, &[StateKind::Queued]) == 0 {
            return Vec::new();
        }
        let streams = self.coordinators.get(node.at).map_or(0, |own| own.streams.len());
        let slots = u32::try_from(streams * self.setup.slots).unwrap_or(u32::MAX);
        let window = window::size(slots, 0.0, WindowPolicy::default());
        let in_flight = self.store.count(lane, &[StateKind::Dispatched, StateKind::Leased]);
        let free = free_places(window, in_flight, BATCH);
        if free == 0 {
            return Vec::new();
        }
        let queues = self.store.waiting(lane, free, self.setup.tenants);
        let mut chosen = choose(free, &queues);
        if self.is(Sabotage::FirstComeFirstServed) {
            chosen = queues.iter().flat_map(|q| q.heads.iter().map(|head| head.job)).collect();
            chosen.sort();
            chosen.truncate(free as usize);
        }
        self.checker.chosen(&queues, &chosen);
        chosen
    }

    pub(super) fn commit_chosen(&mut self, node: Node, lane: Lane, chosen: &[JobId]) {
        let committed = if self.still_leads(node) {
            self.transact(node, |world, now| world.store.dispatch(chosen, now))
        } else {
            Err(StoreFailed)
        };
        let Some(own) = self.coordinators.get_mut(node.at) else { return };
        let again = std::mem::replace(&mut own.filling, Filling::Idle) == Filling::Again;
        let Ok(rows) = committed else { return self.dispatch_failed(node, chosen) };
        if !rows.is_empty() {
            own.rounds.push_back(rows);
            self.schedule.after(Duration::ZERO, Event::Coordinator(node, Step::Publish));
        }
        own.fill_turn += 1;
        let next = if again { 0 } else { lane + 1 };
        let step = Step::Fill { turn: own.fill_turn, lane: next };
        self.schedule.after(Duration::ZERO, Event::Coordinator(node, step));
    }

    fn dispatch_failed(&mut self, node: Node, chosen: &[JobId]) {
        let first = chosen.first().copied().map_or(0, number);
        self.note(format_args!("the dispatch of job {first} and so on did not go through"));
        let delay = self.random.millis(100, 2_000);
        self.plan_fill(node, delay);
        // If it went through all the same, its messages wait in the outbox.
        self.ring_outbox(node);
    }
}
