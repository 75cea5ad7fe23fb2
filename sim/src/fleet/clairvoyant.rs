//! A schedule made with perfect foresight that starts every job in time: what a policy could reach at best,
//! or nearly.

use std::collections::BTreeMap;

use crate::fleet::job::{Millis, Workload, seconds};
use crate::fleet::world::Setup;

/// Cost of a schedule made in hindsight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Hours paid, boots included.
    pub hours: f64,
    pub launches: usize,
}

/// In order of arrival: the job goes to the most recently freed worker that is free, else to one that is
/// free before the job is late, else to a new one, which was booted ahead. A worker whose next job would
/// come after a gap longer than a boot is dropped at the start of the gap.
pub fn schedule(setup: &Setup, workload: &Workload) -> Schedule {
    let boot = setup.boot.mean;
    // Workers by the time at which they are free, and how many are free then.
    let mut free: BTreeMap<Millis, usize> = BTreeMap::new();
    let (mut paid, mut launches) = (0, 0);
    for job in &workload.jobs {
        let latest = job.at + setup.classes[job.class].max_wait;
        drop_before(&mut free, job.at - boot);
        let idle = free.range(..=job.at).next_back().map(|(at, _)| *at);
        let chosen = idle.or_else(|| free.range(job.at..=latest).next().map(|(at, _)| *at));
        let start = if let Some(at) = chosen {
            take(&mut free, at);
            let start = at.max(job.at);
            paid += start - at;
            start
        } else {
            launches += 1;
            paid += boot;
            job.at
        };
        paid += job.service;
        *free.entry(start + job.service).or_default() += 1;
    }
    Schedule { hours: seconds(paid) / 3600.0, launches }
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
