//! The simulated world: processes, wires and one clock, moved on event by event.
//!
//! Everything is one thread, one schedule and seeded chance, so a seed is a story that can be told
//! again. What happens in a step is in the modules of the actors; here is what joins them.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::ids::WorkerId;
use stoker_core::time::Timestamp;

use super::broker::Broker;
use super::checker::Checker;
use super::client::Client;
use super::coordinator::{Coordinator, Step};
use super::faults::Strike;
use super::log::{Log, Trace};
use super::random::Random;
use super::sabotage::Sabotage;
use super::schedule::Schedule;
use super::setup::{Fault, Setup};
use super::store::Store;
use super::types::{Answer, Ask, Caller, Delivery, Hint, Node, Purpose};
use super::worker::{Machine, Task};

/// Something that is to happen.
#[derive(Debug)]
pub(super) enum Event {
    Coordinator(Node, Step),
    Worker(Node, Task),
    Client(usize, super::client::Turn),
    CallArrives(u64, Node, Box<Ask>),
    CallCommits(u64, Node, Box<Ask>),
    CallEnds(u64, Box<Answer>),
    Delivered(Node, Delivery, Hint),
    AckArrives(Delivery, Timestamp),
    Strike(Fault),
    Ends(Strike),
    Heal,
    LookAround,
}

/// A call that has no answer yet.
#[derive(Debug)]
struct Call {
    caller: Caller,
    purpose: Purpose,
}

/// The world of one seed.
#[derive(Debug)]
pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) schedule: Schedule<Event>,
    pub(super) random: Random,
    /// One stream for each fault, so that leaving one out does not move the others.
    pub(super) fates: BTreeMap<Fault, Random>,
    pub(super) log: Log,
    pub(super) store: Store,
    /// Calls to the store fail until then.
    pub(super) store_away_until: Timestamp,
    pub(super) broker: Broker,
    pub(super) coordinators: Vec<Coordinator>,
    pub(super) machines: Vec<Machine>,
    pub(super) clients: Vec<Client>,
    pub(super) checker: Checker,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) healed: bool,
    pub(super) next_number: u64,
    /// How often each job has misbehaved, as its nature has it.
    pub(super) mishaps: BTreeMap<stoker_core::ids::JobId, u32>,
    calls: BTreeMap<u64, Call>,
}

/// Midnight of the first day, and some room before it for clocks that go back.
const START: Timestamp = Timestamp::from_unix_millis(1_000_000);

impl World {
    pub(super) fn new(setup: Setup, sabotage: Option<Sabotage>, trace: Trace) -> Self {
        let seed = setup.seed;
        let fates = (10..).zip(Fault::ALL).map(|(n, fault)| (fault, Random::new(seed, n)));
        let mut world = Self {
            schedule: Schedule::new(START),
            random: Random::new(seed, 3),
            fates: fates.collect(),
            log: Log::new(trace),
            store: Store::new(setup.policy.clone(), setup.max_queued, sabotage),
            store_away_until: START,
            broker: Broker::new(setup.lanes, setup.delivery_limit),
            coordinators: (0..setup.coordinators).map(|_| Coordinator::new(&setup)).collect(),
            machines: (0..setup.machines).map(Machine::new).collect(),
            clients: Vec::new(),
            checker: Checker::new(setup.clone()),
            sabotage,
            healed: false,
            next_number: 1,
            mishaps: BTreeMap::new(),
            calls: BTreeMap::new(),
            setup,
        };
        for at in 0..world.coordinators.len() {
            world.start_coordinator(at);
        }
        for at in 0..world.machines.len() {
            world.start_worker(at);
        }
        world.plan_clients();
        world.plan_faults();
        let trouble = world.setup.trouble;
        world.schedule.after(trouble, Event::Heal);
        world
    }

    pub(super) const fn now(&self) -> Timestamp {
        self.schedule.now()
    }

    pub(super) fn is(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    pub(super) fn fresh(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn note(&mut self, line: std::fmt::Arguments<'_>) {
        self.log.note(self.schedule.now(), line);
    }

    /// Whether something that a fault does to single calls or messages happens now.
    pub(super) fn happens(&mut self, fault: Fault, probability: f64) -> bool {
        let rate = if self.healed { 0.0 } else { self.setup.rate(fault) };
        match self.fates.get_mut(&fault) {
            Some(fate) if rate > 0.0 => fate.chance(probability * rate),
            _ => false,
        }
    }

    /// Moves on by one event; false when there is nothing more to come.
    pub(super) fn step(&mut self) -> bool {
        let Some(event) = self.schedule.pop() else { return false };
        match event {
            Event::Coordinator(node, step) => self.coordinator_step(node, step),
            Event::Worker(node, task) => self.worker_task(node, task),
            Event::Client(client, turn) => self.client_turn(client, turn),
            Event::CallArrives(call, to, ask) => self.call_arrives(call, to, ask),
            Event::CallCommits(call, to, ask) => self.call_commits(call, to, &ask),
            Event::CallEnds(call, answer) => self.call_ends(call, *answer),
            Event::Delivered(node, delivery, hint) => self.delivered(node, delivery, hint),
            Event::AckArrives(delivery, sent) => self.ack_arrives(delivery, sent),
            Event::Strike(fault) => self.strike(fault),
            Event::Ends(strike) => self.strike_ends(strike),
            Event::Heal => self.heal(),
            Event::LookAround => return self.look_around(),
        }
        true
    }

    /// Calls a coordinator; the caller hears of it in any case, by the end of `limit` at the latest.
    pub(super) fn call(
        &mut self,
        (caller, to): (Caller, Node),
        purpose: Purpose,
        ask: Ask,
        limit: Duration,
    ) {
        let id = self.fresh();
        self.calls.insert(id, Call { caller, purpose });
        self.schedule.after(limit, Event::CallEnds(id, Box::new(Answer::None)));
        if let Some(delay) = self.wire(caller) {
            self.schedule.after(delay, Event::CallArrives(id, to, Box::new(ask)));
        }
    }

    /// How long a message takes to or from a caller; `None` when it is lost.
    pub(super) fn wire(&mut self, caller: Caller) -> Option<Duration> {
        let delay = self.random.millis(1, 8);
        let worker = self.worker_of(caller);
        if let Caller::Worker(node) = caller
            && self.machines.get(node.at).is_some_and(|machine| machine.is_cut)
        {
            return None;
        }
        if self.happens(Fault::CallLost, 0.03) {
            self.trouble(worker, Duration::from_secs(30));
            return None;
        }
        if self.happens(Fault::CallSlow, 0.05) {
            self.trouble(worker, Duration::from_secs(30));
            return Some(delay + self.random.millis(100, 8_000));
        }
        Some(delay)
    }

    pub(super) fn worker_of(&self, caller: Caller) -> Option<WorkerId> {
        match caller {
            Caller::Worker(node) => self.machines.get(node.at).map(|machine| machine.id),
            Caller::Client(_) | Caller::Forger => None,
        }
    }

    /// A fault touches this worker now, and its consequences for some time.
    pub(super) fn trouble(&mut self, worker: Option<WorkerId>, lasting: Duration) {
        if let Some(worker) = worker {
            self.checker.trouble(worker, self.now().after(lasting));
        }
    }

    /// Sends an answer on its way.
    pub(super) fn answer(&mut self, call: u64, answer: Answer) {
        let Some(caller) = self.calls.get(&call).map(|call| call.caller) else { return };
        if let Some(delay) = self.wire(caller) {
            self.schedule.after(delay, Event::CallEnds(call, Box::new(answer)));
        }
    }

    pub(super) fn caller(&self, call: u64) -> Option<Caller> {
        self.calls.get(&call).map(|call| call.caller)
    }

    fn call_ends(&mut self, call: u64, answer: Answer) {
        if let Some(Call { caller: Caller::Worker(node), .. }) = self.calls.get(&call)
            && let Some(until) =
                self.machines.get(node.at).and_then(|m| m.paused(*node, self.now()))
        {
            // A process that stands still reads nothing.
            self.schedule.at(until, Event::CallEnds(call, Box::new(answer)));
            return;
        }
        let Some(Call { caller, purpose }) = self.calls.remove(&call) else { return };
        if answer == Answer::None {
            self.checker.tally.add(super::tally::Bite::UnknownAnswers, 1);
        }
        match caller {
            Caller::Worker(node) => self.worker_answered(node, purpose, answer),
            Caller::Client(client) => self.client_answered(client, &purpose, answer),
            Caller::Forger => {}
        }
    }

    /// Hands messages out, if there are any.
    pub(super) fn hand_out(&mut self) {
        for handed in self.broker.hand_out() {
            if handed.redelivered {
                self.checker.tally.add(super::tally::Bite::Redelivered, 1);
            }
            let delay = self.random.millis(1, 5);
            let event = Event::Delivered(handed.node, handed.delivery, handed.hint);
            self.schedule.after(delay, event);
        }
    }

    /// Checks, once all is healed, whether everything has come to rest; false at the end.
    fn look_around(&mut self) -> bool {
        let now = self.now();
        let left = self.left();
        let end = START.after(self.setup.trouble).after(self.patience());
        match left {
            None => {
                self.checker.finish(&self.store, now);
                self.note(format_args!("everything is done"));
                return false;
            }
            Some((invariant, what)) if now >= end => {
                self.checker.finish(&self.store, now);
                self.checker.fail(invariant, || what);
                return false;
            }
            Some(_) => {}
        }
        self.schedule.after(Duration::from_secs(1), Event::LookAround);
        true
    }
}
