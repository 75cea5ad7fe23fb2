//! What machines can do. A worker has two throughputs, one for jobs that start at once and one for jobs that may wait
//! and are batched; both are of the same seconds, so that a second serves one of the two.

use super::check::Offering;

/// Two numbers closer than this are one: a sum of speeds is not exact.
pub(crate) const EPSILON: f64 = 1e-9;

/// The throughputs of one machine or of many, each as if it were for that alone, in workers of speed 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Capacity {
    /// For jobs that start as soon as they can.
    pub(crate) prompt: f64,
    /// For jobs in batches that are as large as they can be.
    pub(crate) bulk: f64,
}

/// What is needed of them at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Need {
    pub(crate) prompt: f64,
    pub(crate) bulk: f64,
}

/// Machines with the same throughputs are of one shape, whatever they cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape(u64, u64);

impl Capacity {
    pub(crate) const fn of(offering: &Offering) -> Self {
        Self { prompt: offering.speed, bulk: offering.bulk_speed }
    }

    pub(crate) const fn shape(self) -> Shape {
        Shape(self.prompt.to_bits(), self.bulk.to_bits())
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self { prompt: self.prompt + other.prompt, bulk: self.bulk + other.bulk }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self { prompt: self.prompt - other.prompt, bulk: self.bulk - other.bulk }
    }

    /// The less of both, each for itself.
    pub(crate) fn least(self, other: Self) -> Self {
        Self { prompt: self.prompt.min(other.prompt), bulk: self.bulk.min(other.bulk) }
    }

    /// Throughput for jobs that may wait, besides `prompt` workers' worth of the others. Whoever is free takes the next
    /// job, so that both kinds of jobs are on all machines alike.
    pub(crate) fn beside(self, prompt: f64) -> f64 {
        if self.prompt > EPSILON { self.bulk * (1.0 - prompt / self.prompt).max(0.0) } else { 0.0 }
    }

    pub(crate) fn covers(self, need: Need) -> bool {
        self.prompt >= need.prompt - EPSILON && self.beside(need.prompt) >= need.bulk - EPSILON
    }
}

impl std::iter::Sum for Capacity {
    fn sum<I: Iterator<Item = Self>>(capacities: I) -> Self {
        capacities.fold(Self::default(), Self::plus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_serves_one_of_the_two() {
        let fleet: Capacity =
            [Capacity { prompt: 1.0, bulk: 1.0 }, Capacity { prompt: 2.0, bulk: 8.0 }]
                .into_iter()
                .sum();
        assert!((fleet.beside(0.0) - 9.0).abs() < EPSILON);
        assert!((fleet.beside(1.0) - 6.0).abs() < EPSILON, "two thirds of the seconds are left");
        assert!(fleet.beside(3.0).abs() < EPSILON && fleet.beside(9.0).abs() < EPSILON);
        assert!(fleet.covers(Need { prompt: 1.0, bulk: 6.0 }));
        assert!(!fleet.covers(Need { prompt: 1.0, bulk: 6.1 }));
        assert!(!fleet.covers(Need { prompt: 3.1, bulk: 0.0 }));
        assert!(Capacity::default().covers(Need::default()));
    }
}
