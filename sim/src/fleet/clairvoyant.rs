//! A schedule made with perfect foresight that starts every job in time: what a policy could reach at best,
//! or nearly.
//!
//! It uses one offering, whichever of the on-demand ones it is cheapest on (or of all, where there is none), at that
//! offering's service times and with its batches. A mixture of unequal offerings could cost less; spot is left out, as
//! what foresight would pay for it depends on what could be had when.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::fleet::job::{Millis, Workload, seconds};
use crate::fleet::market::Offering;
use crate::fleet::world::Setup;

/// Cost of a schedule made in hindsight.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Schedule {
    /// Hours paid, boots included.
    pub hours: f64,
    /// Dollars for them.
    pub cost: f64,
    pub launches: usize,
    /// Index of the offering that it uses.
    pub offering: usize,
}

/// The cheapest of the schedules that use one on-demand offering alone. A setup without offerings costs nothing.
pub fn schedule(setup: &Setup, workload: &Workload) -> Schedule {
    let none_on_demand = setup.offerings.iter().all(|offering| offering.spot);
    let mut schedules: Vec<Schedule> = Vec::new();
    for (index, offering) in setup.offerings.iter().enumerate() {
        let is_like = |schedule: &&Schedule| alike(&setup.offerings[schedule.offering], offering);
        let is_new = schedules.iter().find(is_like).is_none();
        if is_new && (none_on_demand || !offering.spot) {
            schedules.push(on(setup, workload, index));
        }
    }
    let cheapest = schedules.into_iter().min_by(|a, b| a.cost.total_cmp(&b.cost));
    cheapest.unwrap_or(Schedule { hours: 0.0, cost: 0.0, launches: 0, offering: 0 })
}

/// Whether two offerings differ in nothing that a schedule knows, as the same type in two zones does.
fn alike(a: &Offering, b: &Offering) -> bool {
    (a.price - b.price).abs() < 1e-12
        && (a.speed - b.speed).abs() < 1e-12
        && (a.batch, &a.times, &a.instance_type) == (b.batch, &b.times, &b.instance_type)
}

/// Jobs of a model that run together.
#[derive(Debug, Clone, Copy)]
struct Batch {
    model: usize,
    /// Arrival of the last, and the time at which the first is late.
    at: Millis,
    latest: Millis,
    /// Seconds that the longest runs alone.
    longest: f64,
    jobs: usize,
}

/// In order of arrival: the batch goes to the most recently freed worker that is free, else to one that is
/// free before one of its jobs is late, else to a new one, which was booted ahead. A worker whose next batch would
/// come after a gap longer than a boot is dropped at the start of the gap.
fn on(setup: &Setup, workload: &Workload, index: usize) -> Schedule {
    let (boot, offering) = (setup.boot.mean, &setup.offerings[index]);
    // Workers by the time at which they are free, and how many are free then.
    let mut free: BTreeMap<Millis, usize> = BTreeMap::new();
    let (mut paid, mut launches) = (0, 0);
    for batch in batches(setup, workload, offering) {
        drop_before(&mut free, batch.at - boot);
        let idle = free.range(..=batch.at).next_back().map(|(at, _)| *at);
        let soon = || free.range(batch.at..=batch.latest).next().map(|(at, _)| *at);
        let start = if let Some(at) = idle.or_else(soon) {
            take(&mut free, at);
            let start = at.max(batch.at);
            paid += start - at;
            start
        } else {
            launches += 1;
            paid += boot;
            batch.at
        };
        let time = offering.batch_time(batch.model, batch.longest, batch.jobs);
        paid += time;
        *free.entry(start + time).or_default() += 1;
    }
    let hours = seconds(paid) / 3600.0;
    Schedule { hours, cost: hours * offering.price, launches, offering: index }
}

/// The batches by the arrival of their last job. A job joins those of its model that arrived before it as long as there is
/// room and none of them is late by then: as all start in time, waiting for each other costs nothing.
fn batches(setup: &Setup, workload: &Workload, offering: &Offering) -> Vec<Batch> {
    let mut open: Vec<Option<Batch>> = vec![None; workload.models.len()];
    let mut batches = Vec::with_capacity(workload.jobs.len());
    for (index, job) in workload.jobs.iter().enumerate() {
        let most = offering.batch_of(job.model);
        // Where a further job takes as long as one alone, nothing is gained.
        let most = if most.growth < 1.0 { most.size as usize } else { 1 };
        let latest = job.at + setup.classes[job.class].max_wait;
        let longest = offering.alone((index, job), setup.seed);
        let place = &mut open[job.model];
        match place {
            Some(batch) if batch.jobs < most && job.at <= batch.latest => {
                batch.at = job.at;
                batch.latest = batch.latest.min(latest);
                batch.longest = batch.longest.max(longest);
                batch.jobs += 1;
            }
            _ => {
                batches.extend(place.take());
                *place = Some(Batch { model: job.model, at: job.at, latest, longest, jobs: 1 });
            }
        }
    }
    batches.extend(open.into_iter().flatten());
    batches.sort_by_key(|batch| batch.at);
    batches
}

fn drop_before(free: &mut BTreeMap<Millis, usize>, time: Millis) {
    while let Some((at, _)) = free.first_key_value().filter(|(at, _)| **at < time) {
        let at = *at;
        free.remove(&at);
    }
}

fn take(free: &mut BTreeMap<Millis, usize>, at: Millis) {
    if let Some(n) = free.get_mut(&at) {
        *n -= 1;
        if *n == 0 {
            free.remove(&at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::job::Job;
    use crate::fleet::service::{self, Alone, ServiceTime};

    /// Eight jobs of a minute at once, and one of another model ten seconds later.
    fn workload() -> Workload {
        let job = |at, model| Job { at, service: 60_000, class: 0, model };
        let jobs = (0..8).map(|_| job(600_000, 0)).chain([job(610_000, 1)]).collect();
        let models = ["bert", "llama"].map(str::to_owned).to_vec();
        Workload::new("eight and one", jobs, 3_600_000).of_models(models)
    }

    fn minutes(setup: &Setup) -> f64 {
        schedule(setup, &workload()).hours * 60.0
    }

    #[test]
    fn speed_shortens_the_work_and_batches_share_it() {
        let setup = Setup::simple(30, 60);
        // Nine workers of a boot and a minute each, as a wait of 30 s is too short to use one twice.
        assert!((minutes(&setup) - 18.0).abs() < 1e-9);
        let mut fast = setup.clone();
        fast.offerings[0].speed = 2.0;
        // A worker is free again after 30 s, so four do for eight; the last job has one of its own.
        assert!((minutes(&fast) - (4.5 + 5.0)).abs() < 1e-9, "{}", minutes(&fast));
        let mut batched = setup.clone();
        batched.offerings[0].batch = service::Batch { size: 8, growth: 0.25 };
        // One batch of eight takes 1 + 7/4 minutes, and the other model's job has a worker of its own.
        assert!((minutes(&batched) - (2.0 + 2.75 + 1.0)).abs() < 1e-9, "{}", minutes(&batched));
    }

    #[test]
    fn a_model_takes_the_time_that_it_takes_there() {
        let mut setup = Setup::simple(30, 60);
        let times = ServiceTime { alone: Alone::Times(3.0), batch: None };
        setup.offerings[0].times = vec![None, Some(times)];
        assert!((minutes(&setup) - (9.0 + 8.0 + 3.0)).abs() < 1e-9, "{}", minutes(&setup));
    }

    #[test]
    fn the_cheapest_of_the_on_demand_offerings_is_used() {
        let mut setup = Setup::simple(30, 60);
        let fast = Offering { speed: 2.0, ..Offering::on_demand(1.5) };
        setup.offerings.extend([fast, Offering::spot("a", 0.1, None)]);
        let schedule = schedule(&setup, &workload());
        assert_eq!(schedule.offering, 1);
        assert!((schedule.cost - 1.5 * schedule.hours).abs() < 1e-12);
    }
}
