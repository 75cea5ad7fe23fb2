//! What a policy sees and what it may order.

use std::collections::VecDeque;

use crate::fleet::job::{Class, Millis, count, seconds};
use crate::fleet::market::Offering;
use crate::fleet::world::instance::{Instance, InstanceId, Phase};

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

/// Totals since the start, per class where that matters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Totals {
    pub arrived: Vec<usize>,
    pub started: Vec<usize>,
    pub started_late: Vec<usize>,
    pub finished: usize,
    /// Seconds that the finished jobs would have taken on the reference worker, and their squares.
    pub service: f64,
    pub service_squares: f64,
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
    /// Mean service time in seconds, which most policies are told.
    pub mean_service: f64,
    /// Instances that are not gone, oldest first.
    pub instances: Vec<&'a Instance>,
    /// Jobs that wait, as (arrival, class), in the order in which they will start.
    pub waiting: Vec<(Millis, usize)>,
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
        self.waiting.iter().map(|(at, _)| self.now - at).max().unwrap_or(0)
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
