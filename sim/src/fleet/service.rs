//! How long jobs run: by model and instance type, alone and in a batch.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};

use crate::fleet::job::{Job, Millis, count, millis, seconds};

/// A distribution of run times; lognormal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Service {
    /// Seconds.
    pub mean: f64,
    /// Spread over mean.
    pub cv: f64,
}

impl Service {
    /// A run time, at least a millisecond.
    pub fn sample(&self, rng: &mut ChaCha8Rng) -> Millis {
        let variance = (1.0 + self.cv * self.cv).ln();
        let mu = self.mean.max(1e-3).ln() - variance / 2.0;
        LogNormal::new(mu, variance.sqrt())
            .map_or_else(|_| millis(self.mean), |time| millis(time.sample(rng)))
            .max(1)
    }
}

/// How long a job runs alone, against what the workload says of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Alone {
    /// So many times as long as on the reference worker.
    Times(f64),
    /// What the workload says does not hold here: a time of its own for each job.
    Drawn(Service),
}

/// Jobs that a worker runs at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Batch {
    /// Most of them, at least 1.
    pub size: u32,
    /// How much longer a batch takes for each further job in it, as a share of the longest one's time.
    pub growth: f64,
}

impl Batch {
    /// One at a time.
    pub const ONE: Self = Self { size: 1, growth: 0.0 };

    /// How many times as long as its longest job a batch of so many takes.
    pub fn stretch(&self, jobs: usize) -> f64 {
        1.0 + self.growth * count(jobs.saturating_sub(1))
    }

    /// How many times as many jobs as one at a time a worker does in full batches.
    pub fn gain(&self) -> f64 {
        f64::from(self.size) / (1.0 + self.growth * f64::from(self.size.saturating_sub(1)))
    }
}

/// What is known of a model's jobs on the machines of an instance type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServiceTime {
    pub alone: Alone,
    /// Left out: as the offering has it.
    pub batch: Option<Batch>,
}

impl ServiceTime {
    /// Seconds that a job runs alone. What is drawn depends on the seed, the job and the machine's type alone, so that
    /// every policy meets the same times, and a job that is run again takes as long as before.
    pub fn seconds(&self, (index, job): (usize, &Job), kind: &str, seed: u64) -> f64 {
        match self.alone {
            Alone::Times(times) => seconds(job.service) * times,
            Alone::Drawn(service) => {
                let mut rng = ChaCha8Rng::seed_from_u64(mixed(seed, index, kind));
                seconds(service.sample(&mut rng))
            }
        }
    }
}

/// One number of the three, which changes when any of them does (FNV-1a).
fn mixed(seed: u64, index: usize, kind: &str) -> u64 {
    let numbers = seed.to_le_bytes().into_iter().chain(index.to_le_bytes());
    numbers.chain(kind.bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_of_the_job_and_the_machine_and_has_the_mean() {
        let time = ServiceTime { alone: Alone::Drawn(Service { mean: 8.0, cv: 0.5 }), batch: None };
        let job = Job { at: 0, service: 1, class: 0, model: 0 };
        let draw = |index, kind| time.seconds((index, &job), kind, 1);
        assert!((draw(3, "g5") - draw(3, "g5")).abs() < 1e-12);
        assert!((draw(3, "g5") - draw(4, "g5")).abs() > 1e-6);
        assert!((draw(3, "g5") - draw(3, "g6")).abs() > 1e-6);
        let mean = (0..4000).map(|index| draw(index, "g5")).sum::<f64>() / 4000.0;
        assert!((mean - 8.0).abs() < 0.3, "{mean}");
    }

    #[test]
    fn a_full_batch_gains_what_its_growth_leaves() {
        assert!((Batch { size: 4, growth: 0.0 }.gain() - 4.0).abs() < 1e-12);
        assert!((Batch { size: 4, growth: 1.0 }.gain() - 1.0).abs() < 1e-12);
        assert!((Batch::ONE.stretch(1) - 1.0).abs() < 1e-12);
    }
}
