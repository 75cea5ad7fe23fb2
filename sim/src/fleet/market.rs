//! What can be bought: offerings with prices, capacity over time and losses.

use crate::fleet::job::{HOUR_MS, Millis, seconds};

/// Something that could be launched.
#[derive(Debug, Clone, PartialEq)]
pub struct Offering {
    pub name: String,
    pub zone: String,
    pub spot: bool,
    /// Dollars an hour.
    pub price: f64,
    /// How much faster than the reference worker one job runs.
    pub speed: f64,
    /// Most jobs that a worker runs at once.
    pub batch: u32,
    /// How much longer a batch takes for each further job in it, as a share of one job's time.
    pub batch_growth: f64,
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
            zone: "zone-a".to_owned(),
            spot: false,
            price,
            speed: 1.0,
            batch: 1,
            batch_growth: 0.0,
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

    /// How long a batch takes whose longest job takes `longest` alone on the reference worker.
    pub fn batch_time(&self, longest: Millis, jobs: usize) -> Millis {
        let further = crate::fleet::job::count(jobs.saturating_sub(1));
        let time = seconds(longest) / self.speed * (1.0 + self.batch_growth * further);
        crate::fleet::job::millis(time).max(1)
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
