//! How much capacity is wanted: a forecast of the load with its uncertainty, learned from the pool's
//! own history, and a margin over it that its own success adjusts.
//!
//! Loads are in workers of speed 1: a load of 2 keeps two of them busy all the time.

pub(crate) mod class;
pub(crate) mod forecast;
pub(crate) mod history;
pub(crate) mod margin;
pub(crate) mod outlook;
pub(crate) mod quiet;
pub(crate) mod service;
pub(crate) mod surprise;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{ClassName, ModelName};
use crate::time::Timestamp;

use class::ClassDemand;
use forecast::Forecaster;
use history::{History, SLOT};
use margin::{Margin, Record, Starts};
pub(crate) use outlook::{Need, Outlook};
use service::Service;

use super::counters::{ClassCounters, Counters, ModelCounters};
use super::number::real;

/// What a pool's demand has taught so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Demand {
    pub(crate) history: History,
    pub(crate) forecaster: Forecaster,
    /// Of the classes that are staffed for, together.
    pub(crate) margin: Margin,
    /// Of each of them.
    #[serde(default)]
    pub(crate) classes: BTreeMap<ClassName, ClassDemand>,
    /// When jobs of a class were here last, whether or not it is staffed for.
    #[serde(default)]
    pub(crate) seen: BTreeMap<ClassName, Timestamp>,
    /// Of all jobs together.
    pub(crate) service: Service,
    /// Of each model's.
    #[serde(default)]
    pub(crate) models: BTreeMap<ModelName, Service>,
}

/// What is new since the last look, by class of those that are staffed for.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct News {
    pub(crate) classes: BTreeMap<ClassName, ClassNews>,
    /// Whether no worker was ready.
    pub(crate) cold: bool,
}

impl News {
    pub(crate) fn plus(mut self, other: Self) -> Self {
        for (class, news) in other.classes {
            let sum = self.classes.entry(class).or_default();
            *sum = sum.plus(news);
        }
        Self { cold: self.cold || other.cold, ..self }
    }
}

/// What is new of one class.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct ClassNews {
    /// Jobs, each counted as so many that take the mean time of all.
    pub(crate) arrived: f64,
    pub(crate) started: u64,
    pub(crate) started_late: u64,
}

impl ClassNews {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            arrived: self.arrived + other.arrived,
            started: self.started.saturating_add(other.started),
            started_late: self.started_late.saturating_add(other.started_late),
        }
    }

    fn record(&self) -> Record {
        Record { started: real(self.started), late: real(self.started_late) }
    }
}

/// What a class is promised.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Promise {
    pub(crate) class: ClassName,
    pub(crate) max_wait: Duration,
    pub(crate) objective: f64,
}

/// The terms on which a pool must serve.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Terms {
    /// Of the classes that are staffed for, by wait.
    pub(crate) promises: Vec<Promise>,
    /// The shortest wait and the strictest objective of those that are used.
    pub(crate) max_wait: Duration,
    pub(crate) objective: f64,
    pub(crate) boot: Duration,
    /// A class for which the last worker has to stay.
    pub(crate) warm_for: Option<ClassName>,
}

impl Terms {
    /// How far predictions of waits look ahead.
    pub(crate) fn prediction(&self) -> Duration {
        self.boot.saturating_add(Duration::from_mins(2))
    }

    /// How far ahead a launch has to look: until it is ready, and the time over which it must pay.
    fn horizon(&self) -> Duration {
        self.boot.saturating_add(Duration::from_secs(150)).min(Duration::from_hours(1))
    }
}

impl Demand {
    /// Mean service time of a model's jobs, in seconds; the mean of all, for one that is not known yet.
    pub(crate) fn mean_of(&self, model: &ModelName) -> f64 {
        self.models.get(model).unwrap_or(&self.service).mean()
    }

    /// Mean seconds of a model's jobs, if some have finished.
    pub(crate) fn measured(&self, model: &ModelName) -> Option<f64> {
        self.models.get(model).map(Service::mean)
    }

    /// Seconds of work in so many jobs of each model.
    pub(crate) fn work<'a>(&self, jobs: impl Iterator<Item = (&'a ModelName, u64)>) -> f64 {
        jobs.map(|(model, jobs)| real(jobs) * self.mean_of(model)).sum()
    }

    /// Takes in what finished.
    fn finished(&mut self, since: &Counters) {
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
    fn alike(&self, arrived: &BTreeMap<ModelName, u64>) -> f64 {
        let mean = self.service.mean();
        let alike = |(model, jobs): (&ModelName, &u64)| real(*jobs) * (self.mean_of(model) / mean);
        arrived.iter().map(alike).sum()
    }

    /// Notes what share of a class's jobs is predicted to start in time.
    pub(crate) fn predicted(&mut self, class: &ClassName, share: f64) {
        if let Some(class) = self.classes.get_mut(class) {
            class.surprise.predict(share);
        }
    }

    /// Whether jobs of a class have been here lately.
    pub(crate) fn uses(&self, class: &ClassName, now: Timestamp) -> bool {
        self.seen.get(class).is_some_and(|at| now.since(*at) <= USED)
    }

    /// Notes that there are jobs of a class.
    pub(crate) fn see(&mut self, class: &ClassName, now: Timestamp) {
        if let Some(at) = self.seen.get_mut(class) {
            *at = now;
        } else {
            self.seen.insert(class.clone(), now);
        }
    }

    /// What `since` says of the classes that `counts`, and what it teaches of service times.
    pub(crate) fn news(&mut self, since: &Counters, counts: impl Fn(&ClassName) -> bool) -> News {
        self.finished(since);
        let classes = since.classes.iter().filter(|(class, _)| counts(class));
        let new = |(class, since): (&ClassName, &ClassCounters)| {
            let (started, started_late) = (since.started, since.started_late);
            let news = ClassNews { arrived: self.alike(&since.arrived), started, started_late };
            (class.clone(), news)
        };
        News { classes: classes.map(new).collect(), cold: false }
    }

    /// Takes in what happened until `now`, at the service times known by then.
    pub(crate) fn observe(&mut self, news: &News, terms: &Terms, now: Timestamp) {
        let all = news.classes.values().copied().fold(ClassNews::default(), ClassNews::plus);
        let slots = self.history.advance(now, all.arrived, self.service.mean());
        let horizon = slots_of(terms.horizon());
        for _ in 0..slots.min(HELD_SLOTS) {
            self.forecaster.learn(&self.history, horizon);
        }
        self.seen.retain(|_, at| now.since(*at) <= USED);
        self.of_classes(news, terms, slots);
        let starts = Starts { own: all.record(), lent: Record::default(), cold: news.cold };
        self.margin.observe(starts, slots, 1.0 - terms.objective);
    }

    /// The records of the classes. Each borrows those of others with the same wait.
    fn of_classes(&mut self, news: &News, terms: &Terms, slots: u64) {
        let first = match terms.promises.len() {
            0 | 1 => ClassDemand::first(&self.margin),
            _ => ClassDemand::first(&self.margin.as_lent()),
        };
        // One that is launched for by its deadlines for a while, as boots take less, keeps what it has learned.
        let promised = |class: &ClassName| terms.promises.iter().any(|own| own.class == *class);
        self.classes.retain(|class, _| promised(class) || self.seen.contains_key(class));
        for Promise { class, .. } in &terms.promises {
            let arrived = news.classes.get(class).map_or(0.0, |news| news.arrived);
            self.classes.entry(class.clone()).or_insert(first).arrive(arrived, slots);
        }
        for line in terms.promises.chunk_by(|a, b| a.max_wait == b.max_wait) {
            let records = line.iter().map(|one| self.classes.get(&one.class));
            let all = ClassDemand::total(records.flatten());
            let new = line.iter().filter_map(|one| news.classes.get(&one.class)).copied();
            let of_all = new.fold(ClassNews::default(), ClassNews::plus).record();
            for Promise { class, objective, .. } in line {
                let Some(record) = self.classes.get_mut(class) else { continue };
                let own = news.classes.get(class).map_or_else(Record::default, ClassNews::record);
                let lent = of_all.without(own).times(record.presence(&all));
                let starts = Starts { own, lent, cold: news.cold };
                record.margin.observe(starts, slots, 1.0 - objective);
                record.surprise.observe(own.plus(lent), slots, terms.prediction());
            }
        }
    }

    /// What is expected from `now` on.
    pub(crate) fn outlook(&self, terms: &Terms, now: Timestamp) -> Outlook {
        let load = self.forecaster.forecast(&self.history, slots_of(terms.horizon()));
        outlook::outlook(self, load, terms, now)
    }
}

/// A class counts as used for so long after its last job.
const USED: Duration = Duration::from_hours(8 * 24);

/// A gap longer than this many slots is not lived through slot by slot.
const HELD_SLOTS: u64 = 240;

fn slots_of(time: Duration) -> usize {
    usize::try_from(time.as_millis() / SLOT.as_millis()).unwrap_or(usize::MAX).max(1)
}
