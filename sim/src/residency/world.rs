//! One device with its models, event by event.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stoker_core::residency::{
    self, Action, Activity, Demand, Device, Frequency, Load as LastLoad, Model, Place, Stay, decide,
};
use stoker_core::time::Timestamp;

use super::load::{Job, Load};
use super::outcome::Outcome;

/// Who decides what is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The job that has waited longest is next; a model that is not here is loaded for it, and the least recently
    /// used ones leave.
    Lru,
    /// The same, but jobs whose model is here go before all others.
    LruHereFirst,
    /// Stoker's rule.
    Rule(residency::Policy),
}

impl Policy {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::LruHereFirst => "lru, here first",
            Self::Rule(_) => "stoker",
        }
    }
}

/// Place of a job in the order in which they came.
type JobId = usize;

/// Whether anybody waits for a model that is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Needed,
    Spare,
}

/// What the device does.
#[derive(Debug, Clone, Copy)]
enum Doing {
    Load { model: usize, why: Why, from: Timestamp },
    Run { model: usize },
}

/// The device.
struct World<'a> {
    load: &'a Load,
    budget_bytes: u64,
    policy: Policy,
    /// Models that are loaded.
    here: BTreeMap<usize, Stay>,
    /// Jobs that wait, the one that has to start first in front, by model.
    waiting: BTreeMap<usize, BTreeSet<(Timestamp, JobId)>>,
    /// The same, in the order in which they came, with their models.
    line: BTreeMap<JobId, usize>,
    frequencies: Vec<Frequency>,
    doing: Option<(Doing, Timestamp)>,
    last_load: Option<LastLoad>,
    look_at: Option<Timestamp>,
    now: Timestamp,
    outcome: Outcome,
}

/// Lets a device live through all jobs, until the last one is done.
///
/// Models that alone need more than the budget get nothing done: their jobs count as never started.
pub fn run(load: &Load, budget_bytes: u64, policy: Policy) -> Outcome {
    let began = Timestamp::from_unix_millis(0);
    let mut world = World {
        load,
        budget_bytes,
        policy,
        here: BTreeMap::new(),
        waiting: BTreeMap::new(),
        line: BTreeMap::new(),
        frequencies: vec![Frequency::new(began); load.kinds.len()],
        doing: None,
        last_load: None,
        look_at: None,
        now: began,
        outcome: Outcome::new(policy.name(), load.jobs.len()),
    };
    world.live();
    world.outcome
}

impl World<'_> {
    fn live(&mut self) {
        let jobs: &[Job] = &self.load.jobs;
        let mut coming = (0..).zip(jobs).peekable();
        loop {
            while let Some((id, job)) = coming.next_if(|(_, job)| job.at <= self.now) {
                self.arrive(id, *job);
            }
            self.finish();
            if self.doing.is_none() {
                self.step();
            }
            if self.line.is_empty() && coming.peek().is_none() && !self.is_computing() {
                self.outcome.ended(self.now);
                return;
            }
            let ends = self.doing.map(|(_, until)| until);
            let next = coming.peek().map(|(_, job)| job.at).into_iter().chain(ends);
            let next = next.chain(self.look_at.take()).min();
            // Without anything to come, whoever still waits waits for ever.
            let Some(next) = next else {
                self.outcome.ended(self.now);
                return;
            };
            self.now = next.max(self.now);
        }
    }

    fn is_computing(&self) -> bool {
        matches!(self.doing, Some((Doing::Run { .. }, _)))
    }

    fn arrive(&mut self, id: JobId, job: Job) {
        if self.load.kinds[job.model].need_bytes > self.budget_bytes {
            return;
        }
        self.waiting.entry(job.model).or_default().insert((job.start_by, id));
        self.line.insert(id, job.model);
        self.frequencies[job.model].count(1, self.now);
    }

    fn finish(&mut self) {
        let Some((doing, _)) = self.doing.filter(|(_, until)| *until <= self.now) else { return };
        self.doing = None;
        let now = self.now;
        match doing {
            Doing::Load { model, why, from } => {
                let needed_at = (why == Why::Needed).then_some(now);
                self.here.insert(model, Stay { since: now, needed_at, activity: Activity::Idle });
                self.last_load = Some(LastLoad { ended_at: now, took: now.since(from) });
            }
            Doing::Run { model } => {
                if let Some(stay) = self.here.get_mut(&model) {
                    stay.needed_at = Some(now);
                }
            }
        }
    }

    /// The device is free.
    fn step(&mut self) {
        match self.policy {
            Policy::Lru => self.serve_line(|_, _| true),
            Policy::LruHereFirst => {
                let any_here = self.line.values().any(|model| self.here.contains_key(model));
                self.serve_line(|world, model| !any_here || world.here.contains_key(&model));
            }
            Policy::Rule(policy) => self.follow(&policy),
        }
    }

    /// Serves the first in line that `may`.
    fn serve_line(&mut self, may: impl Fn(&Self, usize) -> bool) {
        let first = self.line.iter().find(|(_, model)| may(self, **model));
        let Some((id, model)) = first.map(|(id, model)| (*id, *model)) else { return };
        if self.here.contains_key(&model) {
            self.start(id);
            return;
        }
        let need = |id: &usize| self.load.kinds[*id].need_bytes;
        let mut used: u64 = self.here.keys().map(need).sum();
        let mut order: Vec<(Option<Timestamp>, usize)> =
            self.here.iter().map(|(id, stay)| (stay.needed_at, *id)).collect();
        order.sort_unstable();
        let mut leave = Vec::new();
        for (_, id) in order {
            if used + need(&model) <= self.budget_bytes {
                break;
            }
            used -= need(&id);
            leave.push(id);
        }
        self.start_load(model, &leave, Why::Needed);
    }

    fn follow(&mut self, policy: &residency::Policy) {
        let device = Device { budget_bytes: self.budget_bytes, last_load: self.last_load };
        let decision = decide(policy, &device, &self.models(), self.now);
        self.look_at = decision.look_at;
        match decision.action {
            Action::Load { model, leave, reason } => {
                let why = if reason == residency::Reason::Spare { Why::Spare } else { Why::Needed };
                self.start_load(model, &leave, why);
            }
            // What models need is known from the start here.
            Action::Shrink { .. } | Action::Stay => {
                let here = self.waiting.iter().filter(|(model, _)| self.here.contains_key(model));
                let first = here.filter_map(|(_, jobs)| jobs.first().copied()).min();
                if let Some((_, id)) = first {
                    self.start(id);
                }
            }
        }
    }

    fn models(&self) -> Vec<Model<usize>> {
        let model = |(id, kind): (usize, &super::load::Kind)| {
            let waiting = self.waiting.get(&id);
            let jobs = waiting.map_or(0, BTreeSet::len);
            let start_by = waiting.and_then(|jobs| Some(jobs.first()?.0));
            // The worker does not know either what each of them will take.
            let work = self.load.service.saturating_mul(u32::try_from(jobs).unwrap_or(u32::MAX));
            let every = self.frequencies[id].every(self.now);
            let jobs = u64::try_from(jobs).unwrap_or(u64::MAX);
            Model {
                id,
                need_bytes: kind.need_bytes,
                load: kind.load,
                place: self.here.get(&id).map_or(Place::Absent, |stay| Place::Resident(*stay)),
                demand: Demand { jobs, work, start_by, every },
                barred_until: None,
            }
        };
        self.load.kinds.iter().enumerate().map(model).collect()
    }

    fn start_load(&mut self, model: usize, leave: &[usize], why: Why) {
        self.here.retain(|id, _| !leave.contains(id));
        let took = self.load.kinds[model].load;
        self.outcome.loaded(took);
        let doing = Doing::Load { model, why, from: self.now };
        self.doing = Some((doing, self.now.after(took)));
    }

    fn start(&mut self, id: JobId) {
        let Some(job) = self.load.jobs.get(id) else { return };
        self.line.remove(&id);
        if let Some(jobs) = self.waiting.get_mut(&job.model) {
            jobs.remove(&(job.start_by, id));
        }
        // Times are whole milliseconds, so a job takes at least one.
        let service = job.service.max(Duration::from_millis(1));
        self.outcome.started(self.now.since(job.at), job.start_by.since(job.at), service);
        self.doing = Some((Doing::Run { model: job.model }, self.now.after(service)));
    }
}
