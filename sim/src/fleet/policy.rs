//! What a policy sees and what it may order.

use std::collections::VecDeque;

use crate::fleet::job::{Class, Job, Millis, count, seconds};
use crate::fleet::market::Offering;
use crate::fleet::world::instance::{Instance, InstanceId, Phase};
use crate::fleet::world::queue::Backlog;

/// A rule that decides what runs.
pub trait Policy {
    /// What it is called in tables.
    fn name(&self) -> String;

    /// How often it is asked.
    fn interval(&self) -> Millis {
        15_000
    }

    /// Whether it is also asked when the cloud announces an interruption.
    fn reacts_to_notices(&self) -> bool {
        false
    }

    fn act(&mut self, view: &View<'_>, orders: &mut Orders);
}

/// What happened to the jobs of one class and model since the start.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lane {
    pub arrived: usize,
    pub started: usize,
    pub started_late: usize,
    /// Jobs that run now.
    pub running: usize,
    pub finished: usize,
    /// Seconds that the finished jobs took, as measured where they ran, times the stated speed of the machines that
    /// worked then, and the squares of that. What the others of a batch added to a job's time is not in it.
    pub service: f64,
    pub service_squares: f64,
}

/// The lanes of all classes and models.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Totals {
    models: usize,
    lanes: Vec<Lane>,
}

impl Totals {
    pub fn new(classes: usize, models: usize) -> Self {
        Self { models, lanes: vec![Lane::default(); classes * models] }
    }

    pub fn lane(&mut self, job: &Job) -> &mut Lane {
        &mut self.lanes[job.class * self.models + job.model]
    }

    /// Each lane with its class and model.
    pub fn lanes(&self) -> impl Iterator<Item = (usize, usize, &Lane)> {
        let models = self.models.max(1);
        self.lanes.iter().enumerate().map(move |(at, lane)| (at / models, at % models, lane))
    }

    /// Over all lanes.
    pub fn arrived(&self) -> usize {
        self.lanes.iter().map(|lane| lane.arrived).sum()
    }

    /// Over all lanes.
    pub fn started(&self) -> usize {
        self.lanes.iter().map(|lane| lane.started).sum()
    }
}

/// What has happened to an offering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub launched: usize,
    pub refused: usize,
    pub interrupted: usize,
}

/// The world as a policy sees it.
#[derive(Debug)]
pub struct View<'a> {
    pub now: Millis,
    pub classes: &'a [Class],
    pub offerings: &'a [Offering],
    /// What has been measured of boots.
    pub mean_boot: Millis,
    /// Mean service time in seconds on what most policies launch, which they are told.
    pub mean_service: f64,
    /// Instances that are not gone, oldest first.
    pub instances: Vec<&'a Instance>,
    pub models: &'a [String],
    pub waiting: Backlog<'a>,
    pub running: usize,
    pub totals: &'a Totals,
    pub tallies: &'a [Tally],
    /// Arrival times of the last hour.
    pub recent: &'a VecDeque<Millis>,
}

impl View<'_> {
    /// Workers that are ready and not about to go.
    pub fn ready(&self) -> usize {
        self.instances.iter().filter(|i| i.takes_work()).count()
    }

    pub fn booting(&self) -> usize {
        self.instances.iter().filter(|i| i.phase == Phase::Booting && !i.leaving()).count()
    }

    pub fn oldest_wait(&self) -> Millis {
        self.waiting.oldest().map_or(0, |at| self.now - at)
    }

    /// Arrivals of the last `span`.
    pub fn arrivals(&self, span: Millis) -> usize {
        let from = self.recent.partition_point(|at| *at <= self.now - span);
        self.recent.len() - from
    }

    /// Arrivals per second over the last `span`.
    pub fn rate(&self, span: Millis) -> f64 {
        count(self.arrivals(span)) / seconds(span)
    }

    /// Index of the first on-demand offering.
    pub fn on_demand(&self) -> usize {
        self.offerings.iter().position(|o| !o.spot).unwrap_or(0)
    }
}

/// What a policy wants to happen now.
#[derive(Debug, Default)]
pub struct Orders {
    pub launches: Vec<(usize, usize)>,
    pub drains: Vec<InstanceId>,
}

impl Orders {
    /// Launches `n` of an offering.
    pub fn launch(&mut self, offering: usize, n: usize) {
        if n > 0 {
            self.launches.push((offering, n));
        }
    }

    /// Takes an instance out: at once if it is idle or booting, after its job otherwise.
    pub fn drain(&mut self, id: InstanceId) {
        self.drains.push(id);
    }

    /// Brings the number of instances of an offering to `target`, booting and idle ones going first.
    pub fn toward(&mut self, view: &View<'_>, offering: usize, target: usize) {
        let mut own: Vec<&&Instance> =
            view.instances.iter().filter(|i| i.offering == offering && !i.leaving()).collect();
        let have = own.len();
        if target >= have {
            self.launch(offering, target - have);
            return;
        }
        own.sort_by_key(|i| (i.rank_to_leave(), -i.launched));
        for instance in own.iter().take(have - target) {
            self.drain(instance.id);
        }
    }
}
