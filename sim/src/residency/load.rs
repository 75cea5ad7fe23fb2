//! The models of a simulated device, and the jobs that come for them.

use std::time::Duration;

use stoker_core::time::Timestamp;

use crate::protocol::random::Random;

/// What a fast local disk and the copy to the device give, in bytes per millisecond.
const LOAD_BYTES_PER_MS: u64 = 1_000_000;

/// A world to be simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    pub models: usize,
    /// The exponent of Zipf's law: the n-th model gets `1/n^skew` of what the first one gets.
    pub skew: f64,
    /// Memory of the device for models.
    pub budget_bytes: u64,
    /// Of each model, evenly spread.
    pub need_bytes: (u64, u64),
    /// Starting an engine and its warm-up, whatever its size.
    pub start: Duration,
    /// Share of the device's time that the jobs need, loads aside.
    pub work: f64,
    /// Of one job, on average; exponential.
    pub service: Duration,
    /// Longest waits of the classes, each with as many jobs.
    pub waits: Vec<Duration>,
    /// How long jobs come.
    pub time: Duration,
    pub seed: u64,
}

impl Setup {
    /// 50 models of 80 to 600 MB, on a device with 4 GB for them: about twelve of them fit.
    pub fn fifty(work: f64, time: Duration, seed: u64) -> Self {
        Self {
            models: 50,
            skew: 1.0,
            budget_bytes: 4_000_000_000,
            need_bytes: (80_000_000, 600_000_000),
            start: Duration::from_millis(300),
            work,
            service: Duration::from_millis(50),
            waits: vec![Duration::from_secs(10), Duration::from_mins(1)],
            time,
            seed,
        }
    }
}

/// A model of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) need_bytes: u64,
    pub(super) load: Duration,
}

/// A job of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) at: Timestamp,
    pub(super) model: usize,
    pub(super) service: Duration,
    pub(super) start_by: Timestamp,
}

/// What comes, the same for every policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    pub(super) kinds: Vec<Kind>,
    /// In the order in which they come.
    pub(super) jobs: Vec<Job>,
    pub(super) service: Duration,
}

impl Load {
    /// Draws models and jobs. A setup without models, work or classes has no jobs.
    pub fn draw(setup: &Setup) -> Self {
        let mut sizes = Random::new(setup.seed, 1);
        let kinds: Vec<Kind> = (0..setup.models)
            .map(|_| {
                let need_bytes = sizes.between(setup.need_bytes.0, setup.need_bytes.1);
                let copy = Duration::from_millis(need_bytes / LOAD_BYTES_PER_MS);
                Kind { need_bytes, load: setup.start + copy }
            })
            .collect();
        let shares = shares(setup);
        let mut jobs = Vec::new();
        let mut random = Random::new(setup.seed, 2);
        let began = Timestamp::from_unix_millis(0);
        let ends = began.after(setup.time);
        let gap = setup.service.as_secs_f64() / setup.work;
        let Some(gap) = Duration::try_from_secs_f64(gap).ok().filter(|gap| !gap.is_zero()) else {
            return Self { kinds, jobs, service: setup.service };
        };
        // Fractions of milliseconds add up before they are cut off.
        let mut passed = Duration::ZERO;
        while !shares.is_empty() && !setup.waits.is_empty() {
            passed += random.wait(gap);
            let at = began.after(passed);
            if at >= ends {
                break;
            }
            let place = random.unit();
            let model = shares.iter().position(|share| place < *share).unwrap_or(0);
            let start_by = at.after(setup.waits[random.index(setup.waits.len())]);
            let service = random.wait(setup.service);
            jobs.push(Job { at, model, service, start_by });
        }
        Self { kinds, jobs, service: setup.service }
    }
}

/// The part of the jobs that are of each model or one before it.
fn shares(setup: &Setup) -> Vec<f64> {
    let weight = |rank: usize| {
        let rank = f64::from(u32::try_from(rank).unwrap_or(u32::MAX));
        rank.powf(-setup.skew)
    };
    let total: f64 = (1..=setup.models).map(weight).sum();
    let mut before = 0.0;
    (1..=setup.models)
        .map(|rank| {
            before += weight(rank) / total;
            before
        })
        .collect()
}
