//! How a launch goes: refused, or an instance that boots and may be taken back.

use std::cmp::Reverse;

use rand::RngExt;
use rand_distr::{Distribution, Exp, LogNormal};

use super::instance::{Instance, Phase};
use super::{Event, World};
use crate::fleet::job::{Millis, millis, seconds};

impl World<'_> {
    pub(super) fn launch(&mut self, index: usize) {
        let Some(offering) = self.setup.offerings.get(index) else { return };
        let free = match &offering.capacity {
            Some(steps) => self.held(index).len() < steps.at(self.now) as usize,
            None => true,
        };
        let boot = &self.setup.boot;
        let failed = boot.failures > 0.0 && self.rng.random::<f64>() < boot.failures;
        if !free || failed || self.live.len() >= self.setup.max_instances {
            self.tallies[index].refused += 1;
            return;
        }
        let id = self.instances.len();
        let ready_at = self.now + self.boot_time();
        if offering.losses_per_hour > 0.0
            && let Ok(life) = Exp::new(offering.losses_per_hour)
        {
            let at = self.now + millis(life.sample(&mut self.rng) * 3600.0);
            self.events.push(Reverse((at, Event::Notice(id))));
        }
        self.instances.push(Instance {
            id,
            offering: index,
            phase: Phase::Booting,
            launched: self.now,
            ready_at,
            idle_since: ready_at,
            busy_until: ready_at,
            running: Vec::new(),
            draining: false,
            doomed_at: None,
            epoch: 0,
        });
        self.live.push(id);
        self.tallies[index].launched += 1;
        self.usage.launches += 1;
        self.usage.launched[index] += 1;
        self.events.push(Reverse((ready_at, Event::Ready(id, 0))));
    }

    /// How long a launch of now takes.
    fn boot_time(&mut self) -> Millis {
        let boot = &self.setup.boot;
        let mean = seconds(boot.mean);
        if boot.sigma <= 0.0 || mean <= 0.0 {
            return boot.mean;
        }
        // The mean of a lognormal time is e^(mu + sigma^2/2).
        let mu = mean.ln() - boot.sigma * boot.sigma / 2.0;
        LogNormal::new(mu, boot.sigma).map_or(boot.mean, |time| millis(time.sample(&mut self.rng)))
    }
}
