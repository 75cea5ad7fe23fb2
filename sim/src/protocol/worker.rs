//! A machine and the worker process on it: takes deliveries, claims, runs, reports.
//!
//! What it does with answers is core's to say (`stoker_core::worker`).

mod claims;
mod life;
mod reports;
mod runs;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use stoker_core::ids::{Attempt, ClaimId, JobId, WorkerId};
use stoker_core::job::{AttemptError, FailureKind, ReleaseReason};
use stoker_core::time::Timestamp;
use stoker_core::worker::{Phase, ReportKind};

use super::types::{Answer, Delivery, Fence, Hint, Lane, Node, Part, Purpose, Spec, output};
use super::world::{Event, World};

/// What a worker does next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Task {
    Register,
    Subscribe(Lane),
    ConsumerEnds(u64),
    /// The coordinator that it is registered with is gone.
    HomeLost(Node),
    ClaimAgain(u64),
    /// A regular heartbeat, after which the next one is planned.
    Tick,
    /// A heartbeat beside the regular ones.
    Beat,
    RunEnds(u64),
    Report,
    Stop(JobId, Attempt),
    GraceOver,
    Exit,
}

/// A place for workers, one after the other.
#[derive(Debug)]
pub(super) struct Machine {
    at: usize,
    pub(super) life: u32,
    pub(super) up: bool,
    pub(super) paused_until: Timestamp,
    /// Nothing gets through between it and any coordinator.
    pub(super) is_cut: bool,
    pub(super) id: WorkerId,
    home: Option<Node>,
    registering: Option<Node>,
    registering_last: Option<Node>,
    standing: Standing,
    consumers: BTreeMap<Lane, u64>,
    waiting: VecDeque<(Delivery, Hint)>,
    claims: BTreeMap<u64, Claiming>,
    held: BTreeMap<u64, Held>,
    reports: BTreeMap<u64, Report>,
    /// False while reports do not get through: then no further work is claimed.
    reporting: bool,
    report_failures: u32,
    reports_wait_until: Timestamp,
    beat: Beat,
    drain: Option<Drain>,
    /// Results in files, which outlive the process.
    spool: Vec<(Fence, Vec<Part>)>,
}

/// Whether a coordinator ever knew this worker. From then on it consumes, whoever it is with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    New,
    Known,
}

/// Where heartbeats are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beat {
    Idle,
    UnderWay,
    /// The next one is due and waits for the last one's answer.
    Due,
}

/// A delivery that is being claimed.
#[derive(Debug, Clone, Copy)]
struct Claiming {
    delivery: Delivery,
    hint: Hint,
    claim: ClaimId,
    tries: u32,
}

/// An attempt from its grant until its report is settled.
#[derive(Debug)]
struct Held {
    fence: Fence,
    spec: Spec,
    delivery: Delivery,
    alone: bool,
    phase: Phase,
    first_item: u32,
    started_at: Timestamp,
    results: Results,
    /// The last item is done, but a checkpoint is under way.
    finished: bool,
    outcome: Outcome,
}

/// Results on their way. Parts keep their borders, however often they are sent: the store leaves
/// out what it has by the borders.
#[derive(Debug)]
struct Results {
    /// Items before this one are in parts.
    cut: u32,
    unsent: Vec<Part>,
    in_flight: Vec<Part>,
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Complete,
    Fail(FailureKind),
    EngineDies,
    WorkerDies,
}

/// The end of an attempt on its way to the coordinator.
#[derive(Debug)]
struct Report {
    /// The attempt's key in `held`; none for a result of an earlier process.
    held: Option<u64>,
    fence: Fence,
    kind: ReportKind,
    body: Body,
    calling: bool,
}

#[derive(Debug, Clone)]
enum Body {
    Result(Vec<Part>),
    Failure(AttemptError),
    HandBack(ReleaseReason, Vec<Part>),
}

#[derive(Debug, Clone, Copy)]
struct Drain {
    reason: ReleaseReason,
    overdue: bool,
    ending: bool,
}

impl Machine {
    pub(super) fn new(at: usize) -> Self {
        Self {
            at,
            life: 0,
            up: false,
            paused_until: Timestamp::from_unix_millis(0),
            is_cut: false,
            id: WorkerId::from_bytes([0; 16]),
            home: None,
            registering: None,
            registering_last: None,
            standing: Standing::New,
            consumers: BTreeMap::new(),
            waiting: VecDeque::new(),
            claims: BTreeMap::new(),
            held: BTreeMap::new(),
            reports: BTreeMap::new(),
            reporting: true,
            report_failures: 0,
            reports_wait_until: Timestamp::from_unix_millis(0),
            beat: Beat::Idle,
            drain: None,
            spool: Vec::new(),
        }
    }

    pub(super) const fn node(&self) -> Node {
        Node { at: self.at, life: self.life }
    }

    /// Until when this life of it stands still, if it does.
    pub(super) fn paused(&self, node: Node, now: Timestamp) -> Option<Timestamp> {
        let is_it = self.up && self.life == node.life;
        (is_it && self.paused_until > now).then_some(self.paused_until)
    }

    pub(super) const fn home(&self) -> Option<Node> {
        self.home
    }

    /// What it still has to do, for people; `None` when it has nothing.
    pub(super) fn left(&self) -> Option<String> {
        let (claims, held) = (self.claims.len() + self.waiting.len(), self.held.len());
        let (reports, spooled) = (self.reports.len(), self.spool.len());
        let left = claims + held + reports + spooled > 0;
        left.then(|| {
            format!(
                "worker {} has {claims} claims, {held} attempts, {reports} reports and {spooled} \
                 files",
                self.node()
            )
        })
    }

    /// Items of an attempt that are done by now.
    fn done(held: &Held, now: Timestamp) -> u32 {
        if held.spec.nature == super::types::Nature::Endless {
            return held.first_item;
        }
        let run = now.since(held.started_at).as_millis();
        let items = run / u128::from(held.spec.item_millis.max(1));
        let done = u32::try_from(items).unwrap_or(u32::MAX).saturating_add(held.first_item);
        done.min(held.spec.items)
    }
}

impl Held {
    /// Cuts a part of what was done since the last.
    fn cut(&mut self, done: u32) {
        let first_item = self.results.cut;
        if done > first_item {
            let content = output(self.spec.input);
            let variant = self.fence.attempt.number();
            let items = done - first_item;
            self.results.unsent.push(Part { first_item, items, content, variant });
            self.results.cut = done;
        }
    }

    /// Parts for a checkpoint; none while another is under way.
    fn checkpoint(&mut self, done: u32) -> Vec<Part> {
        if self.results.in_flight.is_empty() {
            self.cut(done);
            self.results.in_flight = std::mem::take(&mut self.results.unsent);
            self.results.in_flight.clone()
        } else {
            Vec::new()
        }
    }

    /// It is not known whether the checkpoint was stored.
    fn give_back(&mut self) {
        let mut unsent = std::mem::take(&mut self.results.in_flight);
        unsent.append(&mut self.results.unsent);
        self.results.unsent = unsent;
    }

    /// All that may not be stored.
    fn rest(&mut self, done: u32) -> Vec<Part> {
        self.cut(done);
        self.give_back();
        self.results.unsent.clone()
    }
}

impl World {
    /// The worker, if this life of it can act now; until when it cannot, otherwise.
    fn alive(&mut self, node: Node) -> Result<&mut Machine, Option<Timestamp>> {
        let now = self.now();
        match self.machines.get_mut(node.at) {
            Some(machine) if machine.up && machine.life == node.life => {
                if machine.paused_until > now {
                    Err(Some(machine.paused_until))
                } else {
                    Ok(machine)
                }
            }
            _ => Err(None),
        }
    }

    pub(super) fn worker_task(&mut self, node: Node, task: Task) {
        match self.alive(node) {
            Ok(_) => {}
            Err(Some(until)) => return self.schedule.at(until, Event::Worker(node, task)),
            Err(None) => return,
        }
        match task {
            Task::Register => self.register(node),
            Task::Subscribe(lane) => self.subscribe(node, lane),
            Task::ConsumerEnds(consumer) => self.consumer_ends(node, consumer),
            Task::HomeLost(home) => self.home_lost(node, home),
            Task::ClaimAgain(key) => self.claim(node, key),
            Task::Tick => {
                self.later(node, self.setup.policy.lease.heartbeat, Task::Tick);
                self.beat(node);
            }
            Task::Beat => self.beat(node),
            Task::RunEnds(key) => self.run_ends(node, key),
            Task::Report => self.pump_reports(node),
            Task::Stop(job, attempt) => self.stop(node, job, attempt),
            Task::GraceOver => self.grace_over(node),
            Task::Exit => self.exit(node),
        }
    }

    pub(super) fn worker_answered(&mut self, node: Node, purpose: Purpose, answer: Answer) {
        if self.alive(node).is_err() {
            return;
        }
        match purpose {
            Purpose::Register => self.registered(node, &answer),
            Purpose::Claim { key } => self.claim_answered(node, key, answer),
            Purpose::Beat { keys } => self.beat_answered(node, &keys, &answer),
            Purpose::Report { key } => self.report_answered(node, key, &answer),
            Purpose::Submit
            | Purpose::ReuseKey
            | Purpose::Watch { .. }
            | Purpose::Pry
            | Purpose::Cancel { .. }
            | Purpose::Retry { .. } => {}
        }
    }

    /// A coordinator to call: its own, or any that is there.
    fn coordinator_for(&self, node: Node) -> Node {
        let home = self.machines.get(node.at).and_then(Machine::home);
        home.unwrap_or_else(|| self.any_coordinator(node.at))
    }

    /// One that is up, or any: a load balancer does not know more.
    pub(super) fn any_coordinator(&self, prefer: usize) -> Node {
        let count = self.coordinators.len().max(1);
        let order = (0..count).map(|n| (n + prefer) % count);
        let up = order.clone().find(|at| self.coordinators.get(*at).is_some_and(|own| own.up));
        let at = up.unwrap_or(prefer % count);
        Node { at, life: self.coordinators.get(at).map_or(0, |own| own.life) }
    }

    /// Acknowledges a delivery.
    fn ack(&mut self, delivery: Delivery) {
        let delay = self.random.millis(1, 5);
        let now = self.now();
        self.schedule.after(delay, Event::AckArrives(delivery, now));
    }

    fn later(&mut self, node: Node, delay: Duration, task: Task) {
        self.schedule.after(delay, Event::Worker(node, task));
    }
}
