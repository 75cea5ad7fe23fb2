//! How much capacity is wanted: a forecast of the load with its uncertainty, learned from the pool's
//! own history, and a margin over it that its own success adjusts.
//!
//! Loads are in workers of speed 1: a load of 2 keeps two of them busy all the time.

pub(crate) mod forecast;
pub(crate) mod history;
pub(crate) mod margin;
pub(crate) mod quiet;
pub(crate) mod service;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::ModelName;
use crate::time::Timestamp;

use forecast::Forecaster;
use history::{History, SLOT};
use margin::Margin;
use service::Service;

use super::counters::{Counters, ModelCounters};
use super::number::real;

/// What a pool's demand has taught so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Demand {
    pub(crate) history: History,
    pub(crate) forecaster: Forecaster,
    pub(crate) margin: Margin,
    /// Of all jobs together.
    pub(crate) service: Service,
    /// Of each model's.
    #[serde(default)]
    pub(crate) models: BTreeMap<ModelName, Service>,
}

/// What is new since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct News {
    /// Jobs, each counted as so many that take the mean time of all.
    pub(crate) arrived: f64,
    pub(crate) started: u64,
    pub(crate) started_late: u64,
    /// Whether no worker was ready.
    pub(crate) cold: bool,
}

/// The terms on which a pool must serve: the shortest wait and the strictest objective of its classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Terms {
    pub(crate) max_wait: Duration,
    pub(crate) objective: f64,
    pub(crate) boot: Duration,
}

impl Terms {
    /// How far ahead a launch has to look: until it is ready, and the time over which it must pay.
    fn horizon(&self) -> Duration {
        self.boot.saturating_add(Duration::from_secs(150)).min(Duration::from_hours(1))
    }
}

/// The load that is expected and how far off it may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outlook {
    /// Expected mean load over the horizon.
    pub(crate) load: f64,
    /// Variance of what must be served within a wait, over the load: chance and forecast errors.
    pub(crate) dispersion: f64,
    /// Deviations above the load that are staffed for.
    pub(crate) margin: f64,
}

impl Outlook {
    /// One standard deviation of the load that must be served within a wait.
    pub(crate) fn deviation(&self) -> f64 {
        (self.load * self.dispersion).max(0.0).sqrt()
    }

    /// Workers that keep the promise, not rounded.
    pub(crate) fn workers(&self) -> f64 {
        self.load + self.margin * self.deviation()
    }
}

impl Demand {
    /// Mean service time of a model's jobs, in seconds; the mean of all, for one that is not known yet.
    pub(crate) fn mean_of(&self, model: &ModelName) -> f64 {
        self.models.get(model).unwrap_or(&self.service).mean()
    }

    /// Seconds of work in so many jobs of each model.
    pub(crate) fn work<'a>(&self, jobs: impl Iterator<Item = (&'a ModelName, u64)>) -> f64 {
        jobs.map(|(model, jobs)| real(jobs) * self.mean_of(model)).sum()
    }

    /// Takes in what finished.
    pub(crate) fn finished(&mut self, since: &Counters) {
        for (model, totals) in &since.models {
            if totals.finished > 0 {
                let like = self.service.first();
                let service = self.models.entry(model.clone()).or_insert(like);
                let ModelCounters { finished, service_seconds, service_squares } = *totals;
                service.observe(real(finished), service_seconds, service_squares);
            }
        }
        self.service.observe(real(since.finished), since.service_seconds, since.service_squares);
    }

    /// The jobs of each model that arrived, each counted as so many that take the mean time of all.
    pub(crate) fn alike(&self, arrived: &BTreeMap<ModelName, u64>) -> f64 {
        let mean = self.service.mean();
        let alike = |(model, jobs): (&ModelName, &u64)| real(*jobs) * (self.mean_of(model) / mean);
        arrived.iter().map(alike).sum()
    }

    /// Takes in what happened until `now`, at the service times known by then.
    pub(crate) fn observe(&mut self, news: News, terms: &Terms, now: Timestamp) {
        let slots = self.history.advance(now, news.arrived, self.service.mean());
        let horizon = slots_of(terms.horizon());
        for _ in 0..slots.min(HELD_SLOTS) {
            self.forecaster.learn(&self.history, horizon);
        }
        self.margin.observe(news, slots, 1.0 - terms.objective);
    }

    /// What is expected from `now` on.
    pub(crate) fn outlook(&mut self, terms: &Terms) -> Outlook {
        let horizon = slots_of(terms.horizon());
        let load = self.forecaster.forecast(&self.history, horizon);
        let mean = self.service.mean();
        // A wait of D averages the work of D and one service: Campbell's formula for the variance of work
        // that arrives in a window, divided by the window squared.
        let chance = mean * (1.0 + self.service.scv()) / (terms.max_wait.as_secs_f64() + mean);
        Outlook {
            load,
            dispersion: chance + UNCERTAINTY * self.forecaster.dispersion(),
            margin: self.margin.deviations(),
        }
    }
}

/// Errors of the forecast count a little more than they were, as the largest are still to come.
const UNCERTAINTY: f64 = 1.1;

/// A gap longer than this many slots is not lived through slot by slot.
const HELD_SLOTS: u64 = 240;

fn slots_of(time: Duration) -> usize {
    usize::try_from(time.as_millis() / SLOT.as_millis()).unwrap_or(usize::MAX).max(1)
}
