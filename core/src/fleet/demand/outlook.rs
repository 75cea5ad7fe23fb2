//! What is expected of the next minutes, and how many workers each class needs to have its promise kept.
//!
//! Jobs start in the order in which their promises end. So a class with a short wait goes before those with longer
//! ones, and is hindered by them only until a worker is free; one with a long wait has all the others before it. The
//! pool needs as many workers as the most demanding of its classes.

use std::time::Duration;

use crate::ids::ClassName;
use crate::time::Timestamp;

use super::class::ClassDemand;
use super::margin::SHARE;
use super::{Demand, Promise, Terms};

/// Errors of the forecast count a little more than they were, as the largest are still to come.
const UNCERTAINTY: f64 = 1.1;

/// The load that is expected, and what the classes need.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outlook {
    /// Expected mean load over the horizon.
    pub(crate) load: f64,
    /// Variance over mean of the load itself, as far as the forecast is not sure.
    pub(crate) doubt: f64,
    /// Mean service time in seconds, and its variance over the squared mean.
    pub(crate) service: f64,
    pub(crate) scv: f64,
    /// Of each class that is staffed for, by wait. One at least.
    pub(crate) needs: Vec<Need>,
}

/// What one class needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Need {
    /// `None` where all classes may wait for a launch, so that none is staffed for.
    pub(crate) class: Option<ClassName>,
    pub(crate) max_wait: Duration,
    pub(crate) objective: f64,
    /// Expected load of the jobs that go before one of its own, its own included.
    pub(crate) load: f64,
    /// Variance of what must be served within a wait, over the load: chance and forecast errors.
    pub(crate) dispersion: f64,
    /// Deviations above the load that are staffed for.
    pub(crate) margin: f64,
    /// Share of its jobs that were late lately.
    pub(crate) late_share: f64,
    /// Share of its jobs that comes in surges which nobody foresees.
    pub(crate) surprise: f64,
}

impl Need {
    /// One standard deviation of the load that must be served within a wait.
    pub(crate) fn deviation(&self) -> f64 {
        (self.load * self.dispersion).max(0.0).sqrt()
    }

    /// Whether more of its jobs have been late than the margin may use up.
    pub(crate) fn is_pressed(&self) -> bool {
        self.late_share > SHARE * (1.0 - self.objective)
    }

    /// Workers that keep the promise, not rounded.
    pub(crate) fn workers(&self) -> f64 {
        self.load + self.margin * self.deviation()
    }
}

impl Outlook {
    /// The class that needs the most; of equals the one with the shortest wait.
    pub(crate) fn hardest(&self) -> Option<&Need> {
        self.needs.iter().rev().max_by(|a, b| a.workers().total_cmp(&b.workers()))
    }

    /// Workers that keep every promise, not rounded.
    pub(crate) fn workers(&self) -> f64 {
        self.hardest().map_or(self.load, |need| need.workers().max(self.load))
    }
}

/// The outlook for an expected `load`.
pub(super) fn outlook(demand: &Demand, load: f64, terms: &Terms, now: Timestamp) -> Outlook {
    let (service, scv) = (demand.service.mean(), demand.service.scv());
    let doubt = UNCERTAINTY * demand.forecaster.dispersion();
    let dispersion = |max_wait: Duration| {
        // A wait of D averages the work of D and one service: Campbell's formula for the variance of work
        // that arrives in a window, divided by the window squared.
        service * (1.0 + scv) / (max_wait.as_secs_f64() + service) + doubt
    };
    let used: Vec<&Promise> = used(demand, terms, now);
    let mut needs = Vec::new();
    let of = |promise: &Promise| demand.classes.get(&promise.class);
    let all = ClassDemand::total(used.iter().copied().filter_map(of)).recent();
    let mut ahead = 0.0;
    for line in used.chunk_by(|a, b| a.max_wait == b.max_wait) {
        let Some(max_wait) = line.first().map(|promise| promise.max_wait) else { continue };
        ahead += ClassDemand::total(line.iter().copied().filter_map(of)).recent();
        let last = used.last().is_some_and(|promise| promise.max_wait == max_wait);
        let share = if last || all <= 0.0 { 1.0 } else { (ahead / all).clamp(0.0, 1.0) };
        let load = load * (share + (1.0 - share) * hindered(load, max_wait, service));
        for promise in line {
            let class = of(promise);
            let margin = class.map_or(demand.margin, |class| class.margin);
            needs.push(Need {
                class: Some(promise.class.clone()),
                max_wait,
                objective: promise.objective,
                load,
                dispersion: dispersion(max_wait),
                margin: margin.deviations(),
                late_share: margin.late_share(),
                surprise: class.map_or(0.0, |class| class.surprise.share()),
            });
        }
    }
    if needs.is_empty() {
        needs.push(Need {
            class: None,
            max_wait: terms.max_wait,
            objective: terms.objective,
            load,
            dispersion: dispersion(terms.max_wait),
            margin: demand.margin.deviations(),
            late_share: demand.margin.late_share(),
            surprise: 0.0,
        });
    }
    Outlook { load, doubt, service, scv, needs }
}

/// The promises that count: those of classes whose jobs come here, or all while nobody knows.
fn used<'a>(demand: &Demand, terms: &'a Terms, now: Timestamp) -> Vec<&'a Promise> {
    let is_used = |promise: &&Promise| demand.uses(&promise.class, now);
    let used: Vec<&Promise> = terms.promises.iter().filter(is_used).collect();
    if used.is_empty() { terms.promises.iter().collect() } else { used }
}

/// The share of those that may wait for longer which is in the way all the same: a job that runs is not put off, so one
/// that comes while all are busy waits until the first of them is free, which with exponential times takes longer
/// than a wait in so many cases.
fn hindered(load: f64, max_wait: Duration, service: f64) -> f64 {
    (-load.max(1.0) * max_wait.as_secs_f64() / service).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::demand::{ClassNews, News};

    fn name(class: &str) -> ClassName {
        ClassName::new(class).unwrap()
    }

    fn terms(classes: &[(&str, u64)]) -> Terms {
        let promise = |(class, wait): &(&str, u64)| Promise {
            class: name(class),
            max_wait: Duration::from_secs(*wait),
            objective: 0.99,
        };
        Terms {
            promises: classes.iter().map(promise).collect(),
            max_wait: Duration::from_secs(30),
            objective: 0.99,
            boot: Duration::from_mins(3),
            warm_for: None,
        }
    }

    /// An hour of so many jobs a slot of each class.
    fn lived(terms: &Terms, jobs: &[(&str, f64)]) -> (Demand, Timestamp) {
        let mut demand = Demand::default();
        let at = |slot: i64| Timestamp::from_unix_millis(slot * 15_000);
        for slot in 0..=240 {
            let news = |(class, arrived): &(&str, f64)| {
                (name(class), ClassNews { arrived: *arrived, ..ClassNews::default() })
            };
            let news = News { classes: jobs.iter().map(news).collect(), cold: false };
            for class in news.classes.keys() {
                demand.see(class, at(slot));
            }
            demand.observe(&news, terms, at(slot));
        }
        (demand, at(240))
    }

    #[test]
    fn a_class_that_goes_first_needs_what_is_before_it_and_the_pool_what_the_hardest_needs() {
        let terms = terms(&[("quick", 30), ("slow", 600)]);
        let (demand, now) = lived(&terms, &[("quick", 3.0), ("slow", 27.0)]);
        let outlook = demand.outlook(&terms, now);
        let [quick, slow] = &outlook.needs[..] else { panic!("{outlook:?}") };
        assert!(quick.load < 0.2 * slow.load, "a tenth and a little: {outlook:?}");
        assert!((slow.load - outlook.load).abs() < 1e-9, "all go before: {outlook:?}");
        assert!(slow.dispersion < quick.dispersion, "long waits even out: {outlook:?}");
        assert!((outlook.workers() - slow.workers().max(quick.workers())).abs() < 1e-9);
        // As if all were quick is what a pool with one wait for all would need.
        let worst = Need { load: outlook.load, ..quick.clone() };
        assert!(outlook.workers() < worst.workers());
    }

    #[test]
    fn with_few_workers_and_long_jobs_those_that_may_wait_are_in_the_way() {
        let wait = Duration::from_secs(30);
        assert!(hindered(1.0, wait, 300.0) > 0.9);
        assert!(hindered(20.0, wait, 20.0) < 1e-9);
    }

    #[test]
    fn a_class_that_is_not_used_is_not_staffed_for() {
        let terms = terms(&[("quick", 5), ("slow", 600)]);
        let (demand, now) = lived(&terms, &[("slow", 30.0)]);
        let outlook = demand.outlook(&terms, now);
        assert_eq!(outlook.needs.len(), 1, "{outlook:?}");
        assert_eq!(outlook.needs[0].class, Some(name("slow")));
        let (unseen, now) = lived(&terms, &[]);
        assert_eq!(unseen.outlook(&terms, now).needs.len(), 2, "nobody knows which is used");
    }
    #[test]
    fn a_class_that_is_not_staffed_for_for_a_while_keeps_what_it_has_learned() {
        let both = terms(&[("quick", 30), ("slow", 900)]);
        let (mut demand, now) = lived(&both, &[("quick", 3.0), ("slow", 27.0)]);
        let learned = demand.classes[&name("slow")];
        let quick = terms(&[("quick", 30)]);
        let hour = now.after(Duration::from_hours(1));
        demand.observe(&News::default(), &quick, hour);
        assert_eq!(demand.classes[&name("slow")], learned);
        let days = now.after(Duration::from_hours(9 * 24));
        demand.observe(&News::default(), &quick, days);
        assert!(!demand.classes.contains_key(&name("slow")), "its last job was nine days ago");
    }
}
