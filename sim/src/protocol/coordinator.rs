//! A coordinator: thin shells around core's rules, as the production's are.

mod calls;
mod dispatcher;
mod publisher;
mod sweeper;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use stoker_core::ids::WorkerId;
use stoker_core::job::{Amnesty, Bells, Effect};
use stoker_core::outbox;
use stoker_core::time::Timestamp;

use super::broker::Publish;
use super::invariants::Invariant;
use super::sabotage::Sabotage;
use super::setup::{Fault, Setup, Shape};
use super::store::{Cause, Change};
use super::tally::Bite;
use super::types::{Lane, Node, Row, number};
use super::worker::Task;
use super::world::{Event, World};

/// What a coordinator does next.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Fill the window of this queue, and of those after it. The number tells whether a later call
    /// has taken the place of this one.
    Fill {
        turn: u64,
        lane: Lane,
    },
    CommitChosen {
        lane: Lane,
        chosen: Vec<stoker_core::ids::JobId>,
    },
    Publish,
    /// Look into the outbox, now and from time to time.
    LookAgain,
    /// Try the queues that were set aside and whose time has come.
    TryAside,
    RoundArrives(Round),
    RoundEnds(Round, Vec<Result<(), Publish>>),
    Clear(Round, outbox::Sent),
    Sweep {
        turn: u64,
    },
    /// A worker's stream of this number is over.
    StreamEnds(WorkerId, u64),
}

/// Messages on their way to the broker and back.
#[derive(Debug, Clone)]
pub(super) struct Round {
    rows: Vec<Row>,
    /// The queue that this round tries, if it is a trial.
    trial: Option<Lane>,
}

/// One coordinator, in whichever life it is.
#[derive(Debug)]
pub(super) struct Coordinator {
    pub(super) life: u32,
    pub(super) up: bool,
    pub(super) paused_until: Timestamp,
    /// Workers whose streams are open here, with the numbers of the streams.
    pub(super) streams: BTreeMap<WorkerId, (Node, u64)>,
    publisher: outbox::Publisher,
    rounds: VecDeque<Vec<Row>>,
    aside: outbox::Aside<Lane>,
    /// Trials under way.
    trials: usize,
    /// A round is under way.
    publishing: bool,
    filling: Filling,
    fill_turn: u64,
    sweep_turn: u64,
    next_sweep: Timestamp,
    amnesty: Amnesty,
    /// The term in which it leads; one coordinator alone needs none.
    term: Option<u64>,
}

/// Where the dispatcher is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filling {
    Idle,
    /// Chosen jobs are being committed.
    UnderWay,
    /// As `UnderWay`, and something has changed meanwhile.
    Again,
}

/// A call to the store that has no good end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoreFailed;

impl Coordinator {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            life: 0,
            up: false,
            paused_until: Timestamp::from_unix_millis(0),
            streams: BTreeMap::new(),
            publisher: outbox::Publisher::new(),
            rounds: VecDeque::new(),
            aside: outbox::Aside::default(),
            trials: 0,
            publishing: false,
            filling: Filling::Idle,
            fill_turn: 0,
            sweep_turn: 0,
            next_sweep: Timestamp::MAX,
            amnesty: Amnesty::new(setup.policy.lease.ttl),
            term: None,
        }
    }
}

impl World {
    /// Where a coordinator stands: `Ok` if this life of it can act now, or until when it cannot.
    pub(super) fn awake(&self, node: Node) -> Result<(), Option<Timestamp>> {
        match self.coordinators.get(node.at) {
            Some(own) if own.up && own.life == node.life => {
                if own.paused_until > self.now() {
                    Err(Some(own.paused_until))
                } else {
                    Ok(())
                }
            }
            _ => Err(None),
        }
    }

    pub(super) fn coordinator_step(&mut self, node: Node, step: Step) {
        match self.awake(node) {
            Ok(()) => {}
            Err(Some(until)) => return self.schedule.at(until, Event::Coordinator(node, step)),
            Err(None) => return,
        }
        match step {
            Step::Fill { turn, lane } => self.fill(node, turn, lane),
            Step::CommitChosen { lane, chosen } => self.commit_chosen(node, lane, &chosen),
            Step::Publish => self.publish(node),
            Step::LookAgain => {
                let again = Event::Coordinator(node, Step::LookAgain);
                self.schedule.after(outbox::LOOK_AGAIN_AFTER, again);
                self.ring_outbox(node);
            }
            Step::TryAside => self.try_aside(node),
            Step::RoundArrives(round) => self.round_arrives(node, round),
            Step::RoundEnds(round, outcomes) => self.round_ends(node, round, outcomes),
            Step::Clear(round, sent) => self.clear(node, &round, sent),
            Step::Sweep { turn } => self.sweep(node, turn),
            Step::StreamEnds(worker, stream) => self.stream_ends(node, worker, stream),
        }
    }

    pub(super) fn start_coordinator(&mut self, at: usize) {
        let fresh = Coordinator::new(&self.setup);
        let Some(own) = self.coordinators.get_mut(at) else { return };
        *own = Coordinator { life: own.life + 1, up: true, ..fresh };
        let node = Node { at, life: own.life };
        self.note(format_args!("coordinator {node} starts"));
        for lane in 0..self.setup.lanes {
            self.broker.declare(lane);
        }
        if self.setup.shape == Shape::OneAlone {
            let now = self.store.clock(self.now());
            self.store.republish(now);
            self.checker.republished(&self.store);
        }
        self.ring_fill(node);
        self.schedule.after(Duration::ZERO, Event::Coordinator(node, Step::LookAgain));
        self.plan_sweep(node, Duration::ZERO);
    }

    /// The process is gone; what it had not committed is dropped.
    pub(super) fn kill_coordinator(&mut self, at: usize) {
        let now = self.now();
        let Some(own) = self.coordinators.get_mut(at).filter(|own| own.up) else { return };
        own.up = false;
        let node = Node { at, life: own.life };
        own.streams.clear();
        self.note(format_args!("coordinator {node} dies"));
        for machine in &self.machines {
            self.schedule.at(now, Event::Worker(machine.node(), Task::HomeLost(node)));
        }
        if self.setup.shape == Shape::OneAlone {
            let consumers = self.broker.consumers_of(None);
            self.broker.forget();
            self.consumers_end(consumers);
        }
    }

    /// Runs `run` in a transaction, unless the store or chance are against it.
    fn transact<T>(
        &mut self,
        node: Node,
        run: impl FnOnce(&mut Self, Timestamp) -> T,
    ) -> Result<T, StoreFailed> {
        if self.store_away_until > self.now() || self.happens(Fault::StoreCallFails, 0.05) {
            return Err(StoreFailed);
        }
        let now = self.store.clock(self.now());
        if self.happens(Fault::StoreAnswerLost, 0.02) {
            self.in_doubt(node, |world| drop(run(world, now)));
            return Err(StoreFailed);
        }
        let result = run(self, now);
        let bells = self.committed(Some(node));
        self.ring(node, bells);
        Ok(result)
    }

    /// The commit happened or not; this coordinator does not learn which. With the store in its own
    /// process it ends and reads the truth when it starts again.
    fn in_doubt(&mut self, node: Node, run: impl FnOnce(&mut Self)) {
        self.checker.tally.add(Bite::InDoubt, 1);
        let happened = self.random.chance(0.5);
        self.note(format_args!("a commit of coordinator {node} is in doubt, really: {happened}"));
        if happened {
            run(self);
            // Whoever is not told of the commit wakes nobody.
            let _ = self.committed(None);
        }
        if self.setup.shape != Shape::Several {
            self.coordinator_dies_for(node.at, Duration::from_millis(500));
        }
    }

    /// Has the referee look at what was committed, and tells workers what they need to know.
    fn committed(&mut self, by: Option<Node>) -> Bells {
        let mut bells = Bells::default();
        for change in self.store.take_changes() {
            let now = self.now();
            self.checker.committed(&change, &self.store, now);
            self.note_change(&change);
            let from = change.before.as_ref().map(|job| job.state.kind());
            bells = bells.and(Bells::of(from, change.after.state.kind(), &change.effects));
            for effect in &change.effects {
                if let (Effect::StopAttempt { worker, attempt }, Some(by)) = (*effect, by) {
                    self.command(by, worker, Task::Stop(change.id, attempt));
                }
            }
        }
        self.checker.check_outbox(&self.store);
        bells
    }

    fn note_change(&mut self, change: &Change) {
        let now = self.now();
        let id = number(change.id);
        let (job, state) = (&change.after, change.after.state.kind().name());
        let attempt = job.last_attempt.map_or(0, stoker_core::ids::Attempt::number);
        let done = job.items_done;
        match &change.cause {
            Cause::Submitted => self.log.note(now, format_args!("job {id} is accepted")),
            Cause::Pardoned => self.log.note(now, format_args!("job {id} has its lease renewed")),
            Cause::Event(event) => self.log.note(
                now,
                format_args!("job {id} is {state} (attempt {attempt}, {done} done): {event:?}"),
            ),
            Cause::Report(fence, event) => self.log.note(
                now,
                format_args!(
                    "job {id} is {state} (attempt {attempt}, {done} done): attempt {} says {event:?}",
                    fence.attempt
                ),
            ),
        }
    }

    fn command(&mut self, by: Node, worker: WorkerId, task: Task) {
        let stream = self.coordinators.get(by.at).and_then(|own| own.streams.get(&worker));
        if let Some((node, _)) = stream.copied()
            && let Some(delay) = self.wire(super::types::Caller::Worker(node))
        {
            self.schedule.after(delay, Event::Worker(node, task));
        }
    }

    fn ring(&mut self, node: Node, bells: Bells) {
        if bells.dispatcher {
            self.ring_fill(node);
        }
        if bells.outbox {
            self.ring_outbox(node);
        }
        if let Some(at) = bells.sweeper {
            let wait = at.since(self.store.clock(self.now()));
            let due = self.now().after(wait);
            if self.coordinators.get(node.at).is_some_and(|own| own.next_sweep > due) {
                self.plan_sweep(node, wait);
            }
        }
    }

    /// Whether this coordinator may dispatch and sweep now. A new term begins like a new start.
    fn leads(&mut self, node: Node) -> bool {
        if self.setup.shape != Shape::Several {
            return true;
        }
        if self.store_away_until > self.now() {
            return false;
        }
        let now = self.store.clock(self.now());
        let term = self.store.lead(node, now);
        let fresh = Coordinator::new(&self.setup);
        let Some(own) = self.coordinators.get_mut(node.at) else { return false };
        if term.is_some() && term != own.term {
            own.amnesty = fresh.amnesty;
            own.publisher = fresh.publisher;
            own.aside = fresh.aside;
            own.rounds.clear();
            self.schedule.after(Duration::ZERO, Event::Coordinator(node, Step::Publish));
            self.checker.tally.add(Bite::Terms, 1);
            self.log.note(self.schedule.now(), format_args!("coordinator {node} leads"));
        }
        own.term = term;
        term.is_some()
    }

    /// Whether a write that only a leader may do goes through.
    fn still_leads(&mut self, node: Node) -> bool {
        let term = self.coordinators.get(node.at).and_then(|own| own.term);
        let leads = term.is_some_and(|term| self.store.is_leader(term));
        if leads || self.setup.shape != Shape::Several {
            return true;
        }
        if term.is_some() && self.is(Sabotage::OldLeaderWrites) {
            self.checker.fail(Invariant::OneLeader, || {
                format!("coordinator {node} writes in its term {term:?}, which is over")
            });
            return true;
        }
        false
    }

    /// Breaks the stream that a worker has with a coordinator now; that learns of it after `delay`.
    pub(super) fn end_stream(&mut self, home: Node, worker: WorkerId, delay: Duration) {
        let own = self.coordinators.get(home.at).filter(|own| own.life == home.life);
        if let Some((_, stream)) = own.and_then(|own| own.streams.get(&worker)) {
            let step = Step::StreamEnds(worker, *stream);
            self.schedule.after(delay, Event::Coordinator(home, step));
        }
    }

    fn stream_ends(&mut self, node: Node, worker: WorkerId, stream: u64) {
        let Some(own) = self.coordinators.get_mut(node.at) else { return };
        // A newer stream may have taken its place.
        let Some((of, _)) = own.streams.get(&worker).copied().filter(|now| now.1 == stream) else {
            return;
        };
        own.streams.remove(&worker);
        self.note(format_args!("coordinator {node} misses worker {of}"));
        // If it fails, the leases run out by themselves.
        let _ = self.transact(node, |world, now| world.store.disconnect(worker, now));
    }
}
