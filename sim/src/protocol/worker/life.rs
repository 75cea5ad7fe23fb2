//! A worker's start, its ties to a coordinator, and its ends.

use std::time::Duration;

use stoker_core::ids::WorkerId;
use stoker_core::job::ReleaseReason;
use stoker_core::time::Timestamp;
use stoker_core::worker::Phase;

use super::super::faults::Strike;
use super::super::setup::Shape;
use super::super::types::{Answer, Ask, Caller, Node, Purpose};
use super::super::world::{Event, World};
use super::{Drain, Machine, Standing, Task};

/// How long the last reports of a draining worker may take.
const REPORTS: Duration = Duration::from_secs(5);

impl World {
    pub(in super::super) fn start_worker(&mut self, at: usize) {
        let id = WorkerId::from_bytes(self.random.bytes());
        let Some(machine) = self.machines.get_mut(at) else { return };
        let spool = std::mem::take(&mut machine.spool);
        let (life, is_cut) = (machine.life + 1, machine.is_cut);
        *machine = Machine { life, up: true, id, is_cut, spool, ..Machine::new(at) };
        let node = machine.node();
        self.note(format_args!("worker {node} starts"));
        self.load_spool(node);
        self.later(node, Duration::from_millis(1), Task::Register);
    }

    pub(super) fn register(&mut self, node: Node) {
        let any = self.random.index(self.coordinators.len());
        let Ok(machine) = self.alive(node) else { return };
        let to = match machine.registering_last {
            // Not the one that did not answer.
            Some(last) => self.any_coordinator(last.at + 1),
            None => self.any_coordinator(any),
        };
        let Ok(machine) = self.alive(node) else { return };
        if machine.home.is_some() || machine.registering.is_some() {
            return;
        }
        machine.registering = Some(to);
        machine.registering_last = Some(to);
        let ask = Ask::Register { id: machine.id, node };
        let limit = Duration::from_secs(10);
        self.call((Caller::Worker(node), to), Purpose::Register, ask, limit);
    }

    pub(super) fn registered(&mut self, node: Node, answer: &Answer) {
        let lanes = self.setup.lanes;
        let Ok(machine) = self.alive(node) else { return };
        let to = machine.registering.take();
        let is_there =
            to.filter(|to| self.awake(*to) != Err(None) && *answer == Answer::Registered);
        let Some(to) = is_there else {
            let delay = self.random.millis(100, 1_000);
            return self.later(node, delay, Task::Register);
        };
        let Ok(machine) = self.alive(node) else { return };
        machine.home = Some(to);
        if std::mem::replace(&mut machine.standing, Standing::Known) == Standing::New {
            for lane in 0..lanes {
                self.later(node, Duration::ZERO, Task::Subscribe(lane));
            }
            self.later(node, Duration::ZERO, Task::Tick);
        } else {
            // A worker that is registered again says at once how it is.
            self.later(node, Duration::ZERO, Task::Beat);
        }
    }

    pub(super) fn home_lost(&mut self, node: Node, home: Node) {
        if self.machines.get(node.at).and_then(Machine::home) == Some(home) {
            self.lose_home(node);
        }
    }

    /// A connection on which nothing comes back is given up for one to another coordinator.
    pub(super) fn home_is_silent(&mut self, node: Node) {
        if self.setup.shape == Shape::Several {
            self.lose_home(node);
        }
    }

    pub(super) fn lose_home(&mut self, node: Node) {
        let Ok(machine) = self.alive(node) else { return };
        machine.home = None;
        let delay = self.random.millis(100, 1_000);
        self.later(node, delay, Task::Register);
    }

    /// The process ends at once, and with it everything that is not in a file.
    pub(in super::super) fn kill_worker(&mut self, at: usize) {
        let delay = self.random.millis(10, 300);
        let Some(machine) = self.machines.get_mut(at).filter(|machine| machine.up) else { return };
        machine.up = false;
        let (node, id, home) = (machine.node(), machine.id, machine.home.take());
        self.note(format_args!("worker {node} is gone"));
        self.checker.trouble(id, Timestamp::MAX);
        for (consumer, _) in self.broker.consumers_of(Some(node)) {
            self.broker.close(consumer);
        }
        self.hand_out();
        if let Some(home) = home {
            self.end_stream(home, id, delay);
        }
    }

    /// Kills the worker and starts another in its place after `delay`.
    pub(in super::super) fn worker_dies_for(&mut self, at: usize, delay: Duration) {
        self.kill_worker(at);
        self.schedule.after(delay, Event::Ends(Strike::WorkerGone(at)));
    }

    /// No new work: finish what ends in time, give the rest back.
    pub(in super::super) fn drain_worker(
        &mut self,
        at: usize,
        reason: ReleaseReason,
        grace: Duration,
    ) {
        let Some(machine) = self.machines.get_mut(at) else { return };
        if !machine.up || machine.drain.is_some() {
            return;
        }
        let (node, id) = (machine.node(), machine.id);
        machine.drain = Some(Drain { reason, overdue: false, ending: false });
        machine.waiting.clear();
        machine.consumers.clear();
        self.note(format_args!("worker {node} drains: {reason:?}"));
        self.checker.trouble(id, Timestamp::MAX);
        for (consumer, _) in self.broker.consumers_of(Some(node)) {
            self.broker.close(consumer);
        }
        self.hand_out();
        self.later(node, grace, Task::GraceOver);
        self.check_drain(node);
    }

    pub(super) fn grace_over(&mut self, node: Node) {
        let Ok(machine) = self.alive(node) else { return };
        let Some(drain) = &mut machine.drain else { return };
        drain.overdue = true;
        let reason = drain.reason;
        self.hand_back(node, reason);
        self.check_drain(node);
    }

    /// Ends when nothing runs and nothing is being claimed; then the last reports have some time.
    pub(super) fn check_drain(&mut self, node: Node) {
        let Ok(machine) = self.alive(node) else { return };
        let Some(drain) = &mut machine.drain else { return };
        let running = machine.held.values().any(|held| held.phase == Phase::Running);
        if running || !(machine.claims.is_empty() || drain.overdue) {
            return;
        }
        let first = !std::mem::replace(&mut drain.ending, true);
        if machine.reports.is_empty() {
            self.later(node, Duration::ZERO, Task::Exit);
        } else if first {
            self.later(node, REPORTS, Task::Exit);
        }
    }

    pub(super) fn exit(&mut self, node: Node) {
        self.give_up_reports(node);
        let delay = self.random.millis(500, 20_000);
        self.worker_dies_for(node.at, delay);
    }
}
