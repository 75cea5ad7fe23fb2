//! The simulated world: events in order of time, and what they change.

pub mod instance;
mod sample;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp, LogNormal};

use crate::fleet::job::{Class, HOUR_MS, Job, Millis, Workload, millis, seconds};
use crate::fleet::market::{Billing, Boot, Offering, Steps};
use crate::fleet::policy::{Orders, Policy, Tally, Totals, View};
use crate::fleet::score::{Outcome, Usage};
use instance::{Instance, InstanceId, Phase};

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

struct World<'a> {
    setup: &'a Setup,
    workload: &'a Workload,
    now: Millis,
    rng: ChaCha8Rng,
    events: BinaryHeap<Reverse<(Millis, Event)>>,
    instances: Vec<Instance>,
    live: Vec<InstanceId>,
    idle: Vec<InstanceId>,
    /// Waiting jobs by (end of the promise, index): first to be late, first to start.
    queue: BinaryHeap<Reverse<(Millis, usize)>>,
    /// First start of each job.
    starts: Vec<Option<Millis>>,
    recent: VecDeque<Millis>,
    totals: Totals,
    tallies: Vec<Tally>,
    usage: Usage,
    mean_service: f64,
}

impl<'a> World<'a> {
    fn new(setup: &'a Setup, workload: &'a Workload) -> Self {
        let mut events = BinaryHeap::new();
        for (index, offering) in setup.offerings.iter().enumerate() {
            let steps = offering.capacity.iter().flat_map(Steps::iter);
            events.extend(steps.map(|(at, value)| Reverse((at, Event::Capacity(index, value)))));
        }
        events.push(Reverse((0, Event::Tick)));
        let zeros = vec![0; setup.classes.len()];
        let totals = Totals {
            arrived: zeros.clone(),
            started: zeros.clone(),
            started_late: zeros,
            ..Totals::default()
        };
        Self {
            setup,
            workload,
            now: 0,
            rng: ChaCha8Rng::seed_from_u64(setup.seed),
            events,
            instances: Vec::new(),
            live: Vec::new(),
            idle: Vec::new(),
            queue: BinaryHeap::new(),
            starts: vec![None; workload.jobs.len()],
            recent: VecDeque::new(),
            totals,
            tallies: vec![Tally::default(); setup.offerings.len()],
            usage: Usage::new(setup.offerings.len()),
            mean_service: workload.mean_service(),
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
        let (at, class) = (self.workload.jobs[job].at, self.workload.jobs[job].class);
        self.totals.arrived[class] += 1;
        self.recent.push_back(at);
        while self.recent.front().is_some_and(|first| *first < at - HOUR_MS) {
            self.recent.pop_front();
        }
        self.enqueue(job);
        self.dispatch();
    }

    fn enqueue(&mut self, job: usize) {
        let Job { at, class, .. } = self.workload.jobs[job];
        self.queue.push(Reverse((at + self.setup.classes[class].max_wait, job)));
    }

    /// Gives waiting jobs to idle workers, the most recently busy first, so that others can go.
    fn dispatch(&mut self) {
        while !self.queue.is_empty() {
            let Some(id) = self.idle.pop() else { return };
            let offering = &self.setup.offerings[self.instances[id].offering];
            let mut running = Vec::new();
            while running.len() < offering.batch as usize {
                let Some(Reverse((_, job))) = self.queue.pop() else { break };
                running.push(job);
            }
            for job in &running {
                self.start(*job);
            }
            let longest = running.iter().map(|job| self.workload.jobs[*job].service).max();
            let until = self.now + offering.batch_time(longest.unwrap_or(0), running.len());
            let instance = &mut self.instances[id];
            instance.phase = Phase::Busy;
            instance.busy_until = until;
            instance.running = running;
            instance.epoch += 1;
            self.events.push(Reverse((until, Event::Finish(id, instance.epoch))));
        }
    }

    fn start(&mut self, job: usize) {
        if self.starts[job].is_some() {
            self.usage.rerun += 1;
            return;
        }
        let Job { at, class, .. } = self.workload.jobs[job];
        self.starts[job] = Some(self.now);
        self.totals.started[class] += 1;
        if self.now - at > self.setup.classes[class].max_wait {
            self.totals.started_late[class] += 1;
        }
    }

    fn finish(&mut self, id: InstanceId) {
        let jobs = std::mem::take(&mut self.instances[id].running);
        for job in jobs {
            let service = seconds(self.workload.jobs[job].service);
            self.totals.finished += 1;
            self.totals.service += service;
            self.totals.service_squares += service * service;
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
        let mut waiting: Vec<(Millis, usize)> =
            self.queue.iter().map(|Reverse((due, job))| (*due, *job)).collect();
        waiting.sort_unstable();
        let place = |(_, job): (Millis, usize)| {
            let job = &self.workload.jobs[job];
            (job.at, job.class)
        };
        let view = View {
            now: self.now,
            classes: &self.setup.classes,
            offerings: &self.setup.offerings,
            mean_boot: self.setup.boot.mean,
            mean_service: self.mean_service,
            instances: self.live.iter().map(|id| &self.instances[*id]).collect(),
            waiting: waiting.into_iter().map(place).collect(),
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

    fn launch(&mut self, index: usize) {
        let Some(offering) = self.setup.offerings.get(index) else { return };
        let free = match &offering.capacity {
            Some(steps) => self.held(index).len() < steps.at(self.now) as usize,
            None => true,
        };
        let boot = &self.setup.boot;
        let failed = boot.failures > 0.0 && self.rng.random::<f64>() < boot.failures;
        if !free || failed || self.live.len() >= self.setup.max_instances {
            self.tallies[index].refused += 1;
            return;
        }
        let id = self.instances.len();
        let ready_at = self.now + self.boot_time();
        if offering.losses_per_hour > 0.0
            && let Ok(life) = Exp::new(offering.losses_per_hour)
        {
            let at = self.now + millis(life.sample(&mut self.rng) * 3600.0);
            self.events.push(Reverse((at, Event::Notice(id))));
        }
        self.instances.push(Instance {
            id,
            offering: index,
            phase: Phase::Booting,
            launched: self.now,
            ready_at,
            idle_since: ready_at,
            busy_until: ready_at,
            running: Vec::new(),
            draining: false,
            doomed_at: None,
            epoch: 0,
        });
        self.live.push(id);
        self.tallies[index].launched += 1;
        self.usage.launches += 1;
        self.events.push(Reverse((ready_at, Event::Ready(id, 0))));
    }

    fn boot_time(&mut self) -> Millis {
        let boot = &self.setup.boot;
        let mean = seconds(boot.mean);
        if boot.sigma <= 0.0 || mean <= 0.0 {
            return boot.mean;
        }
        // The mean of a lognormal time is e^(mu + sigma^2/2).
        let mu = mean.ln() - boot.sigma * boot.sigma / 2.0;
        LogNormal::new(mu, boot.sigma).map_or(boot.mean, |time| millis(time.sample(&mut self.rng)))
    }
}
