//! The instances of a pool, with what each is worth.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::OfferingName;
use crate::time::Timestamp;

use super::capacity::Capacity;
use super::check::{Offering, Scaling};
use super::demand::Demand;
use super::snapshot::{Instance, InstanceState};

/// An instance and its offering; `None` if the fleet file does not name it any more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'a> {
    pub(crate) instance: &'a Instance,
    pub(crate) offering: Option<&'a Offering>,
}

impl Member<'_> {
    /// Workers of speed 1 that it replaces.
    pub(crate) fn speed(&self) -> f64 {
        self.offering.map_or(1.0, |offering| offering.speed)
    }

    /// What it does in both ways.
    pub(crate) fn capacity(&self) -> Capacity {
        self.offering.map_or(Capacity { prompt: 1.0, bulk: 1.0 }, Capacity::of)
    }

    /// Dollars an hour; what has no known price is dear.
    pub(crate) fn price(&self) -> f64 {
        self.offering.map_or(f64::MAX, |offering| offering.price.hour().dollars())
    }

    /// Dollars an hour for a worker of speed 1; what has no known price is dear.
    pub(crate) fn unit_price(&self) -> f64 {
        self.offering.map_or(f64::MAX, |o| o.price.hour().dollars() / o.speed)
    }

    pub(crate) fn idle_since(&self) -> Option<Timestamp> {
        match self.instance.state {
            InstanceState::Ready { running: 0, idle_since, ready_at } => {
                Some(idle_since.unwrap_or(ready_at))
            }
            InstanceState::Ready { .. }
            | InstanceState::Booting
            | InstanceState::Draining { .. } => None,
        }
    }

    /// Seconds until it has finished what it runs: its own word, as it knows its items and what they take. Of one that does
    /// not tell, only the number of its jobs is known, and that they are of the models in its memory. The one that takes
    /// longest is taken, as no job is to be cut short.
    pub(crate) fn work_left(&self, demand: &Demand) -> f64 {
        let jobs = self.instance.running();
        if let Some(told) = self.instance.credible_remaining().filter(|_| jobs > 0) {
            return told.as_secs_f64();
        }
        let means = self.instance.warm.iter().map(|model| demand.mean_of(model));
        let mean = means.max_by(f64::total_cmp).unwrap_or_else(|| demand.service.mean());
        f64::from(jobs) * mean / self.speed()
    }

    pub(crate) fn age(&self, now: Timestamp) -> Duration {
        now.since(self.instance.launched_at)
    }
}

/// The members of a pool in the order of the snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Roster<'a> {
    pub(crate) members: Vec<Member<'a>>,
}

impl<'a> Roster<'a> {
    pub(crate) fn new(instances: &'a [Instance], scaling: &'a Scaling) -> Self {
        let member = |instance: &'a Instance| Member {
            instance,
            offering: scaling.offerings.get(&instance.offering),
        };
        Self { members: instances.iter().map(member).collect() }
    }

    /// Those that are neither leaving nor in `gone`, which holds positions.
    pub(crate) fn staying(&self, gone: &[usize]) -> impl Iterator<Item = (usize, &Member<'a>)> {
        let stays =
            |(at, member): &(usize, &Member<'a>)| !member.instance.leaving() && !gone.contains(at);
        self.members.iter().enumerate().filter(stays)
    }

    /// Instances per offering, leaving ones included, as they still hold the provider's capacity.
    pub(crate) fn counts(&self) -> BTreeMap<OfferingName, u32> {
        let mut counts = BTreeMap::new();
        for member in &self.members {
            *counts.entry(member.instance.offering.clone()).or_default() += 1;
        }
        counts
    }
}
