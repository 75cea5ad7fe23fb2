//! What can be bought: offerings with prices, capacity over time and losses.

use crate::fleet::job::{HOUR_MS, Job, Millis, millis, seconds};
use crate::fleet::service::{Batch, ServiceTime};

/// Something that could be launched.
#[derive(Debug, Clone, PartialEq)]
pub struct Offering {
    pub name: String,
    pub instance_type: String,
    pub zone: String,
    pub spot: bool,
    /// Dollars an hour.
    pub price: f64,
    /// How much faster than the reference worker one job runs, as the planner is told.
    pub speed: f64,
    pub batch: Batch,
    /// By model, how long its jobs really run; `None` and what is left out: as the speed has it. No policy is told.
    pub times: Vec<Option<ServiceTime>>,
    /// How many could be had at each moment; left out: as many as asked for.
    pub capacity: Option<Steps>,
    /// Interruptions per instance and hour, beside those that the capacity causes.
    pub losses_per_hour: f64,
}

impl Offering {
    /// An on-demand offering that is always to be had.
    pub fn on_demand(price: f64) -> Self {
        Self {
            name: "on-demand".to_owned(),
            instance_type: "gpu".to_owned(),
            zone: "zone-a".to_owned(),
            spot: false,
            price,
            speed: 1.0,
            batch: Batch::ONE,
            times: Vec::new(),
            capacity: None,
            losses_per_hour: 0.0,
        }
    }

    /// A spot offering of a zone.
    pub fn spot(zone: &str, price: f64, capacity: Option<Steps>) -> Self {
        Self {
            name: format!("spot {zone}"),
            zone: zone.to_owned(),
            spot: true,
            capacity,
            ..Self::on_demand(price)
        }
    }

    fn time_of(&self, model: usize) -> Option<&ServiceTime> {
        self.times.get(model).and_then(Option::as_ref)
    }

    /// Seconds that a job runs alone on one of its machines. `index` is the job's, `seed` the world's.
    pub fn alone(&self, (index, job): (usize, &Job), seed: u64) -> f64 {
        match self.time_of(job.model) {
            Some(time) => time.seconds((index, job), &self.instance_type, seed),
            None => seconds(job.service) / self.speed,
        }
    }

    /// How many of a model's jobs a machine runs at once.
    pub fn batch_of(&self, model: usize) -> Batch {
        self.time_of(model).and_then(|time| time.batch).unwrap_or(self.batch)
    }

    /// How long a batch of a model takes whose longest job runs `longest` seconds alone.
    pub fn batch_time(&self, model: usize, longest: f64, jobs: usize) -> Millis {
        millis(longest * self.batch_of(model).stretch(jobs)).max(1)
    }

    /// Whether its machines run every job as the reference worker does, one at a time.
    pub fn is_reference(&self) -> bool {
        let of_models = self.times.iter().flatten();
        let as_told = of_models.fold(true, |all, time| {
            all && time.alone == crate::fleet::service::Alone::Times(1.0)
                && time.batch.is_none_or(|batch| batch.size == 1)
        });
        as_told && (self.speed - 1.0).abs() < 1e-9 && self.batch.size == 1
    }
}

/// A value that changes at certain times and holds in between; 0 before the first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Steps(Vec<(Millis, u32)>);

impl Steps {
    /// Steps in any order.
    pub fn new(mut steps: Vec<(Millis, u32)>) -> Self {
        steps.sort_by_key(|step| step.0);
        Self(steps)
    }

    pub fn at(&self, time: Millis) -> u32 {
        let after = self.0.partition_point(|step| step.0 <= time);
        after.checked_sub(1).map_or(0, |index| self.0[index].1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Millis, u32)> + '_ {
        self.0.iter().copied()
    }
}

/// How long a launch takes to become a worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Boot {
    pub mean: Millis,
    /// Spread of the logarithm of the time; 0: always the mean.
    pub sigma: f64,
    /// Share of launches that are refused though there should be capacity.
    pub failures: f64,
}

impl Boot {
    /// Always the same.
    pub const fn fixed(seconds: i64) -> Self {
        Self { mean: seconds * 1000, sigma: 0.0, failures: 0.0 }
    }
}

/// What is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Billing {
    /// How much of the start of an instance's life is free.
    pub pending_free: Millis,
    /// The least that is billed for an instance that started.
    pub minimum: Millis,
}

impl Default for Billing {
    /// Every second from the launch on, which is dearer than EC2 by the pending time of about 20 s.
    fn default() -> Self {
        Self { pending_free: 0, minimum: 60_000 }
    }
}

impl Billing {
    /// Billed time of an instance that lived from `launched` to `ended`.
    pub fn billed(&self, launched: Millis, ended: Millis) -> Millis {
        let life = ended - launched;
        if life <= self.pending_free { 0 } else { (life - self.pending_free).max(self.minimum) }
    }

    /// The same in hours.
    pub fn hours(&self, launched: Millis, ended: Millis) -> f64 {
        seconds(self.billed(launched, ended)) / seconds(HOUR_MS)
    }
}
