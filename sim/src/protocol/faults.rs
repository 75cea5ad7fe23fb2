//! What goes wrong, and how it comes right again.

use std::time::Duration;

use stoker_core::ids::{Attempt, LeaseToken};
use stoker_core::job::{AttemptError, FailureKind, ReleaseReason};
use stoker_core::time::Timestamp;

use super::invariants::Invariant;
use super::random::Random;
use super::setup::{Fault, Shape};
use super::tally::Bite;
use super::types::{Ask, Caller, Fence, Node, Part, Purpose, number};
use super::worker::Task;
use super::world::{Event, World};

/// The end of a fault.
#[derive(Debug, Clone, Copy)]
pub(super) enum Strike {
    CoordinatorDown(usize),
    BrokerDown,
    Alarm,
    WorkerGone(usize),
    Cut(usize),
    /// A paused worker has said nothing for so long that others give it up.
    Silent(Node),
}

impl World {
    pub(super) fn plan_faults(&mut self) {
        let faults: Vec<Fault> = self.setup.faults.keys().copied().collect();
        for fault in faults {
            self.plan_strike(fault);
        }
    }

    fn plan_strike(&mut self, fault: Fault) {
        let rate = self.setup.rate(fault);
        let Some(interval) = fault.interval() else { return };
        let Some(fate) = self.fates.get_mut(&fault) else { return };
        let wait = fate.wait(interval.div_f64(rate));
        self.schedule.after(wait, Event::Strike(fault));
    }

    fn fate(&mut self, fault: Fault) -> Random {
        let mut fate = self.fates.remove(&fault).unwrap_or_else(|| Random::new(0, 0));
        // A stream of its own for each strike, whatever the strike makes of it.
        let strike = Random::new(fate.between(0, u64::MAX), 4);
        self.fates.insert(fault, fate);
        strike
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        if self.healed {
            return;
        }
        self.plan_strike(fault);
        let mut fate = self.fate(fault);
        self.note(format_args!("fault: {}", fault.name()));
        match fault {
            Fault::CoordinatorKilled => {
                let at = fate.index(self.coordinators.len());
                self.coordinator_dies_for(at, fate.millis(200, 60_000));
            }
            Fault::CoordinatorPaused => self.pause_coordinator(&mut fate),
            Fault::StoreAway => {
                let (from, until) = (self.now(), self.now().after(fate.millis(200, 45_000)));
                self.store_away_until = until;
                self.checker.outage(from, until);
            }
            Fault::BrokerKilled => self.kill_broker(fate.millis(500, 15_000)),
            Fault::BrokerAlarm => {
                self.broker.alarm = true;
                self.schedule.after(fate.millis(1_000, 40_000), Event::Ends(Strike::Alarm));
            }
            Fault::QueuePurged => {
                let lost = self.broker.purge(fate.index(self.setup.lanes));
                self.checker.tally.add(Bite::LostMessages, lost as u64);
            }
            Fault::QueueDeleted => {
                let ended = self.broker.delete(fate.index(self.setup.lanes));
                self.consumers_end(ended);
            }
            Fault::ChannelBroken => self.break_channel(&mut fate),
            Fault::ClockJump => self.jump_clock(&mut fate),
            Fault::ForgedReport => self.forge(&mut fate),
            _ => self.strike_worker(fault, &mut fate),
        }
    }

    fn strike_worker(&mut self, fault: Fault, fate: &mut Random) {
        let at = fate.index(self.machines.len());
        let Some(node) = self.machines.get(at).map(super::worker::Machine::node) else { return };
        match fault {
            Fault::WorkerKilled => self.worker_dies_for(at, fate.millis(500, 30_000)),
            Fault::AllWorkersKilled => {
                for at in 0..self.machines.len() {
                    self.worker_dies_for(at, fate.millis(500, 20_000));
                }
            }
            Fault::WorkerPaused => self.pause_worker(node, fate.millis(500, 90_000)),
            Fault::WorkerDrained => {
                let grace = fate.millis(100, 20_000);
                self.drain_worker(at, ReleaseReason::Draining, grace);
            }
            Fault::WorkerInterrupted => {
                let grace = fate.millis(100, 5_000);
                self.drain_worker(at, ReleaseReason::Interrupted, grace);
            }
            Fault::WorkerCutOff => self.cut(at, fate.millis(1_000, 90_000)),
            Fault::StreamBroken => self.break_stream(node),
            _ => {}
        }
    }

    /// Kills a coordinator and starts it again after `delay`.
    pub(super) fn coordinator_dies_for(&mut self, at: usize, delay: Duration) {
        if self.coordinators.get(at).is_none_or(|own| !own.up) {
            return;
        }
        let (from, until) = (self.now(), self.now().after(delay));
        self.checker.outage(from, until);
        self.kill_coordinator(at);
        self.schedule.at(until, Event::Ends(Strike::CoordinatorDown(at)));
    }

    fn pause_coordinator(&mut self, fate: &mut Random) {
        let at = fate.index(self.coordinators.len());
        let (from, until) = (self.now(), self.now().after(fate.millis(500, 60_000)));
        if let Some(own) = self.coordinators.get_mut(at) {
            own.paused_until = until;
            self.checker.outage(from, until);
        }
    }

    fn kill_broker(&mut self, down: Duration) {
        if !self.broker.up || self.setup.shape == Shape::OneAlone {
            return;
        }
        self.broker.up = false;
        let consumers = self.broker.consumers_of(None);
        for (consumer, _) in &consumers {
            self.broker.close(*consumer);
        }
        self.consumers_end(consumers);
        self.schedule.after(down, Event::Ends(Strike::BrokerDown));
    }

    fn break_channel(&mut self, fate: &mut Random) {
        let consumers = self.broker.consumers_of(None);
        let Some(broken) = consumers.get(fate.index(consumers.len())) else { return };
        self.broker.close(broken.0);
        self.consumers_end(vec![*broken]);
        self.hand_out();
    }

    /// A pause looks the same from outside as a dead machine, until it is over.
    fn pause_worker(&mut self, node: Node, length: Duration) {
        let until = self.now().after(length);
        let Some(machine) = self.machines.get_mut(node.at).filter(|machine| machine.up) else {
            return;
        };
        machine.paused_until = until;
        let id = machine.id;
        self.note(format_args!("worker {node} stands still for {length:?}"));
        self.checker.trouble(id, until.after(Duration::from_secs(30)));
        self.schedule.after(Duration::from_secs(16), Event::Ends(Strike::Silent(node)));
    }

    fn cut(&mut self, at: usize, length: Duration) {
        let until = self.now().after(length);
        let Some(machine) = self.machines.get_mut(at) else { return };
        machine.is_cut = true;
        let (id, node, home) = (machine.id, machine.node(), machine.home());
        self.note(format_args!("worker {node} is cut off for {length:?}"));
        self.checker.trouble(id, until.after(Duration::from_mins(1)));
        self.schedule.at(until, Event::Ends(Strike::Cut(at)));
        if let Some(home) = home {
            let noticed = Duration::from_secs(15);
            self.end_stream(home, id, noticed);
            self.schedule.after(noticed, Event::Worker(node, Task::HomeLost(home)));
        }
    }

    fn break_stream(&mut self, node: Node) {
        let Some(machine) = self.machines.get(node.at).filter(|machine| machine.up) else { return };
        let (id, home) = (machine.id, machine.home());
        self.trouble(Some(id), Duration::from_secs(30));
        if let Some(home) = home {
            self.end_stream(home, id, Duration::ZERO);
            let now = self.now();
            self.schedule.at(now, Event::Worker(node, Task::HomeLost(home)));
        }
    }

    fn jump_clock(&mut self, fate: &mut Random) {
        let millis = match fate.index(4) {
            0 => -fate.number(1, 4_000).cast_signed(),
            1 => fate.number(1, 15_000).cast_signed(),
            _ => fate.number(15_000, 3_600_000).cast_signed(),
        };
        let now = self.now();
        self.store.jump(millis.into());
        self.checker.clock_jumped(now);
        self.note(format_args!("the store's clock jumps by {millis} ms"));
    }

    /// Somebody reports of an attempt without its token.
    fn forge(&mut self, fate: &mut Random) {
        let leased = |id: &&stoker_core::ids::JobId| {
            self.store.jobs.get(*id).is_some_and(|stored| stored.job.lease().is_some())
        };
        let jobs: Vec<_> = self.store.open.iter().filter(leased).copied().collect();
        let Some(id) = jobs.get(fate.index(jobs.len())).copied() else { return };
        let Some(stored) = self.store.jobs.get(&id) else { return };
        let attempt = stored.job.last_attempt.unwrap_or(Attempt::FIRST);
        let fence = Fence { job: id, attempt, token: LeaseToken::from_bytes(fate.bytes()) };
        let items = stored.spec.items;
        let parts = vec![Part { first_item: 0, items, content: 666, variant: 666 }];
        let (kind, code) = (FailureKind::Permanent, "FORGED".to_owned());
        let ask = match fate.index(3) {
            0 => Ask::Complete { fence, parts },
            1 => Ask::Fail { fence, error: AttemptError { kind, code, message: String::new() } },
            _ => Ask::Release { fence, reason: ReleaseReason::Draining, parts: Vec::new() },
        };
        self.note(format_args!("somebody forges a report of job {}", number(id)));
        let to = self.any_coordinator(0);
        self.call((Caller::Forger, to), Purpose::Register, ask, Duration::from_secs(5));
    }

    pub(super) fn strike_ends(&mut self, strike: Strike) {
        match strike {
            Strike::CoordinatorDown(at) => {
                if self.coordinators.get(at).is_some_and(|own| !own.up) {
                    self.start_coordinator(at);
                }
            }
            Strike::BrokerDown => {
                self.note(format_args!("the broker is back"));
                self.broker.up = true;
            }
            Strike::Alarm => {
                self.note(format_args!("the broker takes messages again"));
                self.broker.alarm = false;
            }
            Strike::WorkerGone(at) => {
                if self.machines.get(at).is_some_and(|machine| !machine.up) {
                    self.start_worker(at);
                }
            }
            Strike::Cut(at) => {
                if let Some(machine) = self.machines.get_mut(at) {
                    machine.is_cut = false;
                }
            }
            Strike::Silent(node) => self.give_up_silent(node),
        }
    }

    /// Broker and coordinator end the connections of a worker that stands still.
    fn give_up_silent(&mut self, node: Node) {
        let now = self.now();
        let Some(machine) = self.machines.get(node.at) else { return };
        if machine.paused(node, now).is_none() {
            return;
        }
        let (id, home) = (machine.id, machine.home());
        let consumers = self.broker.consumers_of(Some(node));
        for (consumer, _) in &consumers {
            self.broker.close(*consumer);
        }
        self.consumers_end(consumers);
        self.hand_out();
        if let Some(home) = home {
            self.end_stream(home, id, Duration::ZERO);
            self.schedule.at(now, Event::Worker(node, Task::HomeLost(home)));
        }
    }

    /// Everything comes right, and from now on nothing goes wrong.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.note(format_args!("everything is healed"));
        let now = self.now();
        self.store_away_until = now;
        self.broker.up = true;
        self.broker.alarm = false;
        for at in 0..self.coordinators.len() {
            if let Some(own) = self.coordinators.get_mut(at) {
                own.paused_until = now;
            }
            self.strike_ends(Strike::CoordinatorDown(at));
        }
        for at in 0..self.machines.len() {
            if let Some(machine) = self.machines.get_mut(at) {
                machine.paused_until = now;
                machine.is_cut = false;
            }
            self.strike_ends(Strike::WorkerGone(at));
        }
        self.schedule.after(Duration::from_secs(1), Event::LookAround);
    }

    /// What has not come to rest, if anything.
    pub(super) fn left(&self) -> Option<(Invariant, String)> {
        let waits = |what: String| Some((Invariant::NothingWaitsForEver, what));
        if let Some(what) = self.clients.iter().find_map(super::client::Client::left) {
            return waits(what);
        }
        if let Some(id) = self.store.open.first() {
            return waits(format!("job {} is open", number(*id)));
        }
        if let Some(what) = self.machines.iter().find_map(super::worker::Machine::left) {
            return waits(what);
        }
        let (outbox, ready) = (self.store.outbox.len(), self.broker.ready());
        let unsettled = self.broker.unsettled();
        (outbox + ready + unsettled > 0).then(|| {
            let what = format!("{outbox} rows in the outbox, {ready} messages in queues and {unsettled} unsettled are left");
            (Invariant::NothingIsLeft, what)
        })
    }

    /// How long it took from the healing to the end.
    pub(super) fn since_start(&self, start: Timestamp) -> Duration {
        self.now().since(start)
    }
}
