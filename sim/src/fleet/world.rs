//! The simulated world: events in order of time, and what they change.

pub mod instance;
mod launch;
pub mod queue;
mod sample;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::fleet::job::{Class, HOUR_MS, Job, Millis, Workload, count};
use crate::fleet::market::{Billing, Boot, Offering, Steps};
use crate::fleet::policy::{Orders, Policy, Tally, Totals, View};
use crate::fleet::score::{Outcome, Usage};
use instance::{Instance, InstanceId, Phase};
use queue::{Backlog, Queue};

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    pub classes: Vec<Class>,
    pub offerings: Vec<Offering>,
    pub boot: Boot,
    pub billing: Billing,
    /// Time between the announcement of an interruption and the loss.
    pub notice: Millis,
    /// Most instances at a time.
    pub max_instances: usize,
    pub seed: u64,
}

impl Setup {
    /// One class and one on-demand offering at a price of 1, so that cost is in GPU-hours.
    pub fn simple(max_wait_s: i64, boot_s: i64) -> Self {
        Self {
            classes: vec![Class { max_wait: max_wait_s * 1000, objective: 0.99 }],
            offerings: vec![Offering::on_demand(1.0)],
            boot: Boot::fixed(boot_s),
            billing: Billing::default(),
            notice: 120_000,
            max_instances: 256,
            seed: 1,
        }
    }

    /// Mean seconds that a job runs alone on the first on-demand offering, or on the first of all; 1 without jobs.
    /// It is what those are told who staff by service time.
    pub fn mean_service(&self, workload: &Workload) -> f64 {
        let told = self.offerings.iter().find(|offering| !offering.spot);
        let Some(offering) =
            told.or_else(|| self.offerings.first()).filter(|one| !one.is_reference())
        else {
            return workload.mean_service();
        };
        let jobs = workload.jobs.iter().enumerate();
        let total: f64 = jobs.map(|job| offering.alone(job, self.seed)).sum();
        if workload.jobs.is_empty() { 1.0 } else { total / count(workload.jobs.len()) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Finish(InstanceId, u32),
    Ready(InstanceId, u32),
    Lost(InstanceId),
    Notice(InstanceId),
    Capacity(usize, u32),
    Tick,
}

/// Runs a policy on a workload to its end.
pub fn run(setup: &Setup, workload: &Workload, policy: &mut dyn Policy) -> Outcome {
    World::new(setup, workload).run(policy)
}

fn equal_speed(offerings: &[Offering]) -> bool {
    offerings.windows(2).all(|two| (two[0].speed - two[1].speed).abs() < 1e-12)
}

struct World<'a> {
    setup: &'a Setup,
    workload: &'a Workload,
    now: Millis,
    rng: ChaCha8Rng,
    events: BinaryHeap<Reverse<(Millis, Event)>>,
    instances: Vec<Instance>,
    live: Vec<InstanceId>,
    idle: Vec<InstanceId>,
    queue: Queue,
    /// First start of each job.
    starts: Vec<Option<Millis>>,
    recent: VecDeque<Millis>,
    totals: Totals,
    tallies: Vec<Tally>,
    usage: Usage,
    mean_service: f64,
    /// Whether all offerings are stated to be of one speed.
    equal_speed: bool,
}

impl<'a> World<'a> {
    fn new(setup: &'a Setup, workload: &'a Workload) -> Self {
        let mut events = BinaryHeap::new();
        for (index, offering) in setup.offerings.iter().enumerate() {
            let steps = offering.capacity.iter().flat_map(Steps::iter);
            events.extend(steps.map(|(at, value)| Reverse((at, Event::Capacity(index, value)))));
        }
        events.push(Reverse((0, Event::Tick)));
        let models = workload.models.len();
        Self {
            setup,
            workload,
            now: 0,
            rng: ChaCha8Rng::seed_from_u64(setup.seed),
            events,
            instances: Vec::new(),
            live: Vec::new(),
            idle: Vec::new(),
            queue: Queue::new(models),
            starts: vec![None; workload.jobs.len()],
            recent: VecDeque::new(),
            totals: Totals::new(setup.classes.len(), models),
            tallies: vec![Tally::default(); setup.offerings.len()],
            usage: Usage::new(setup.offerings.len()),
            mean_service: setup.mean_service(workload),
            equal_speed: equal_speed(&setup.offerings),
        }
    }

    fn run(mut self, policy: &mut dyn Policy) -> Outcome {
        let mut next_job = 0;
        let end = self.workload.end;
        loop {
            let arrival = self.workload.jobs.get(next_job).map_or(Millis::MAX, |job| job.at);
            let event = self.events.peek().map_or(Millis::MAX, |Reverse((at, _))| *at);
            if arrival.min(event) >= end {
                break;
            }
            // What ends or becomes ready at a moment is there for who arrives at it.
            if event <= arrival {
                if let Some(Reverse((at, event))) = self.events.pop() {
                    self.now = at;
                    self.apply(event, policy);
                }
            } else {
                self.now = arrival;
                self.arrive(next_job);
                next_job += 1;
            }
        }
        self.now = end;
        for id in self.live.clone() {
            self.end(id);
        }
        Outcome::new(policy.name(), self.setup, self.workload, (self.starts, self.usage))
    }

    fn apply(&mut self, event: Event, policy: &mut dyn Policy) {
        match event {
            Event::Finish(id, epoch) if self.instances[id].epoch == epoch => self.finish(id),
            Event::Ready(id, epoch) if self.instances[id].epoch == epoch => self.ready(id),
            Event::Finish(..) | Event::Ready(..) => {}
            Event::Lost(id) => self.lose(id),
            Event::Notice(id) => {
                if self.announce(id) && policy.reacts_to_notices() {
                    self.ask(policy);
                }
            }
            Event::Capacity(offering, value) => {
                if self.shrink(offering, value) && policy.reacts_to_notices() {
                    self.ask(policy);
                }
            }
            Event::Tick => {
                let sample = self.sample();
                self.usage.samples.push(sample);
                self.ask(policy);
                self.events.push(Reverse((self.now + policy.interval(), Event::Tick)));
            }
        }
    }

    fn arrive(&mut self, job: usize) {
        let arrived = &self.workload.jobs[job];
        let at = arrived.at;
        self.totals.lane(arrived).arrived += 1;
        self.recent.push_back(at);
        while self.recent.front().is_some_and(|first| *first < at - HOUR_MS) {
            self.recent.pop_front();
        }
        self.enqueue(job);
        self.dispatch();
    }

    fn enqueue(&mut self, job: usize) {
        let Job { at, class, model, .. } = self.workload.jobs[job];
        self.queue.push(model, (at + self.setup.classes[class].max_wait, job));
    }

    /// Gives waiting jobs to idle workers, the most recently busy first, so that others can go.
    fn dispatch(&mut self) {
        while let Some(model) = self.queue.first_model() {
            let Some(id) = self.idle.pop() else { return };
            let offering = &self.setup.offerings[self.instances[id].offering];
            let running = self.queue.take(model, offering.batch_of(model).size as usize);
            for job in &running {
                self.start(*job);
            }
            let longest = running.iter().map(|job| self.alone(id, *job)).fold(0.0, f64::max);
            let until = self.now + offering.batch_time(model, longest, running.len());
            let instance = &mut self.instances[id];
            instance.phase = Phase::Busy;
            instance.busy_until = until;
            instance.running = running;
            instance.epoch += 1;
            self.events.push(Reverse((until, Event::Finish(id, instance.epoch))));
        }
    }

    /// Seconds that a job runs alone on an instance.
    fn alone(&self, id: InstanceId, job: usize) -> f64 {
        let offering = &self.setup.offerings[self.instances[id].offering];
        offering.alone((job, &self.workload.jobs[job]), self.setup.seed)
    }

    /// What a second on this machine, which runs something, counts as for the planner: production knows no better than what runs on each
    /// machine, as `PoolPolicy::mean_speed` has it.
    fn stated_speed(&self, id: InstanceId) -> f64 {
        let of = |instance: &Instance| self.setup.offerings[instance.offering].speed;
        let own = of(&self.instances[id]);
        if self.equal_speed {
            return own;
        }
        let live = self.live.iter().map(|id| &self.instances[*id]);
        let jobs = live.map(|instance| (count(instance.running.len()), of(instance)));
        let (work, number) =
            jobs.fold((0.0, 0.0), |(work, n), (jobs, speed)| (work + jobs * speed, n + jobs));
        if number > 0.0 { work / number } else { own }
    }

    fn start(&mut self, index: usize) {
        let job = &self.workload.jobs[index];
        let lane = self.totals.lane(job);
        lane.running += 1;
        if self.starts[index].is_some() {
            self.usage.rerun += 1;
            return;
        }
        self.starts[index] = Some(self.now);
        lane.started += 1;
        if self.now - job.at > self.setup.classes[job.class].max_wait {
            lane.started_late += 1;
        }
    }

    fn finish(&mut self, id: InstanceId) {
        let speed = self.stated_speed(id);
        let jobs = std::mem::take(&mut self.instances[id].running);
        for index in jobs {
            let service = self.alone(id, index) * speed;
            let lane = self.totals.lane(&self.workload.jobs[index]);
            lane.running -= 1;
            lane.finished += 1;
            lane.service += service;
            lane.service_squares += service * service;
        }
        self.free(id);
    }

    fn ready(&mut self, id: InstanceId) {
        self.free(id);
    }

    /// An instance that has nothing to do: it goes if it is to go, and waits for work otherwise.
    fn free(&mut self, id: InstanceId) {
        if self.instances[id].leaving() {
            self.end(id);
            return;
        }
        self.instances[id].phase = Phase::Idle;
        self.instances[id].idle_since = self.now;
        self.idle.push(id);
        self.dispatch();
    }

    fn end(&mut self, id: InstanceId) {
        let instance = &mut self.instances[id];
        if instance.phase == Phase::Gone {
            return;
        }
        let price = self.setup.offerings[instance.offering].price;
        let hours = self.setup.billing.hours(instance.launched, self.now);
        self.usage.add(instance.offering, hours, price);
        instance.phase = Phase::Gone;
        instance.epoch += 1;
        self.live.retain(|other| *other != id);
        self.idle.retain(|other| *other != id);
    }

    fn lose(&mut self, id: InstanceId) {
        let jobs = std::mem::take(&mut self.instances[id].running);
        self.end(id);
        self.usage.cut_short += jobs.len();
        for job in jobs {
            self.totals.lane(&self.workload.jobs[job]).running -= 1;
            self.enqueue(job);
        }
        self.dispatch();
    }

    /// Announces an interruption; false if the instance is gone or has been told already.
    fn announce(&mut self, id: InstanceId) -> bool {
        let instance = &mut self.instances[id];
        if instance.phase == Phase::Gone || instance.doomed_at.is_some() {
            return false;
        }
        let lost_at = self.now + self.setup.notice;
        instance.doomed_at = Some(lost_at);
        self.tallies[instance.offering].interrupted += 1;
        self.usage.interrupted += 1;
        self.events.push(Reverse((lost_at, Event::Lost(id))));
        if instance.phase == Phase::Idle {
            self.end(id);
        }
        true
    }

    fn shrink(&mut self, offering: usize, value: u32) -> bool {
        let alive: Vec<InstanceId> = self.held(offering);
        let excess = alive.len().saturating_sub(value as usize);
        let mut told = false;
        for id in alive.into_iter().rev().take(excess) {
            told |= self.announce(id);
        }
        told
    }

    /// Instances of an offering that the cloud has not asked back, oldest first.
    fn held(&self, offering: usize) -> Vec<InstanceId> {
        let own = |id: &InstanceId| {
            let instance = &self.instances[*id];
            instance.offering == offering && instance.doomed_at.is_none()
        };
        self.live.iter().copied().filter(own).collect()
    }

    fn ask(&mut self, policy: &mut dyn Policy) {
        let view = View {
            now: self.now,
            classes: &self.setup.classes,
            offerings: &self.setup.offerings,
            mean_boot: self.setup.boot.mean,
            mean_service: self.mean_service,
            instances: self.live.iter().map(|id| &self.instances[*id]).collect(),
            models: &self.workload.models,
            waiting: Backlog::new(&self.queue, &self.workload.jobs, self.setup.classes.len()),
            running: self.live.iter().map(|id| self.instances[*id].running.len()).sum(),
            totals: &self.totals,
            tallies: &self.tallies,
            recent: &self.recent,
        };
        let mut orders = Orders::default();
        policy.act(&view, &mut orders);
        for id in orders.drains {
            self.drain(id);
        }
        for (offering, n) in orders.launches {
            for _ in 0..n {
                self.launch(offering);
            }
        }
    }

    fn drain(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        match instance.phase {
            Phase::Gone => {}
            Phase::Idle | Phase::Booting => self.end(id),
            Phase::Busy => instance.draining = true,
        }
    }
}
