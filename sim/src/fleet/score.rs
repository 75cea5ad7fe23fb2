//! What a run came to: kept promises, waits, cost.

use serde::Serialize;

use crate::fleet::job::{Millis, Workload, count, seconds};
use crate::fleet::world::Setup;

/// The world at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sample {
    pub at: Millis,
    /// Jobs that wait, and how long the first in line has waited.
    pub waiting: usize,
    pub first_waits: Millis,
    /// Jobs that run.
    pub running: usize,
    /// Instances that take work, and all that are paid for.
    pub ready: usize,
    pub instances: usize,
    /// Dollars since the start, for what runs as if it ended now.
    pub cost: f64,
}

/// What was used and paid.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Usage {
    /// Billed hours per offering.
    pub hours: Vec<f64>,
    /// Dollars, at the prices of the offerings.
    pub cost: f64,
    /// The same per offering.
    pub costs: Vec<f64>,
    pub launches: usize,
    /// The same per offering.
    pub launched: Vec<usize>,
    pub interrupted: usize,
    /// Jobs that ran when their instance was lost.
    pub cut_short: usize,
    /// Jobs that were started again.
    pub rerun: usize,
    /// Once per question to the policy.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

impl Usage {
    pub fn new(offerings: usize) -> Self {
        let nothing = vec![0.0; offerings];
        Self {
            hours: nothing.clone(),
            costs: nothing,
            launched: vec![0; offerings],
            ..Self::default()
        }
    }

    pub fn add(&mut self, offering: usize, hours: f64, price: f64) {
        self.hours[offering] += hours;
        self.cost += hours * price;
        self.costs[offering] += hours * price;
    }
}

/// The result of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub policy: String,
    pub workload: String,
    pub jobs: usize,
    /// Share of jobs that started within their class's wait.
    pub attainment: f64,
    /// The same for each class, in the order of the setup; 1 for a class without jobs.
    pub by_class: Vec<f64>,
    pub mean_wait: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub usage: Usage,
    /// First start of each job, by its index.
    #[serde(skip)]
    pub starts: Vec<Option<Millis>>,
}

impl Outcome {
    /// Scores a run. A job that had not started at the end counts by how long it had waited then.
    pub fn new(
        policy: String,
        setup: &Setup,
        workload: &Workload,
        (starts, usage): (Vec<Option<Millis>>, Usage),
    ) -> Self {
        let mut waits: Vec<Millis> = Vec::with_capacity(starts.len());
        // (kept, all) of each class.
        let mut classes = vec![(0_usize, 0_usize); setup.classes.len()];
        for (job, start) in workload.jobs.iter().zip(&starts) {
            let wait = start.unwrap_or(workload.end) - job.at;
            let (kept, all) = &mut classes[job.class];
            *kept += usize::from(wait <= setup.classes[job.class].max_wait);
            *all += 1;
            waits.push(wait);
        }
        let share =
            |(kept, all): (usize, usize)| if all == 0 { 1.0 } else { count(kept) / count(all) };
        waits.sort_unstable();
        let jobs = waits.len();
        let total: Millis = waits.iter().sum();
        Self {
            policy,
            workload: workload.name.clone(),
            jobs,
            attainment: share((classes.iter().map(|(kept, _)| kept).sum(), jobs)),
            by_class: classes.iter().copied().map(share).collect(),
            mean_wait: if jobs == 0 { 0.0 } else { seconds(total) / count(jobs) },
            p50: quantile(&waits, 50),
            p95: quantile(&waits, 95),
            p99: quantile(&waits, 99),
            usage,
            starts,
        }
    }

    /// Whether each class kept its promise as often as it says.
    pub fn keeps(&self, setup: &Setup) -> bool {
        self.by_class.iter().zip(&setup.classes).all(|(share, class)| *share >= class.objective)
    }

    /// Billed hours over all offerings.
    pub fn hours(&self) -> f64 {
        self.usage.hours.iter().sum()
    }
}

fn quantile(sorted: &[Millis], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).map_or(0.0, |wait| seconds(*wait))
}
