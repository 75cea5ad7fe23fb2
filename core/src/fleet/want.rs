//! How many workers a pool wants now, and why not more or fewer.

use std::time::Duration;

use crate::time::Timestamp;

use super::backlog::{self, Due};
use super::capacity::Need;
use super::demand::quiet::{self, Trade};
use super::demand::{Outlook, Terms};
use super::input::{BulkLot, Input};
use super::memory::PoolMemory;
use super::number::ceil;
use super::patience;
use super::policy::PoolPolicy;
use super::report::Note;

/// A want is held for this share of a boot and this long, in case the load comes back.
const HOLD_BOOTS: f64 = 1.3;
const HOLD: Duration = Duration::from_secs(30);
/// How much of a backlog is met with more workers; the rest is worked off by those that are there.
const BACKLOG_SHARE: f64 = 0.5;
/// A load below this is none.
const NO_LOAD: f64 = 1e-3;

/// What is wanted, in workers of speed 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Want {
    /// For classes whose jobs start soon.
    pub(crate) prompt: u32,
    /// Whether the backlog, not the forecast, decided that.
    pub(crate) for_backlog: bool,
    /// Throughput wanted for classes whose jobs may wait, none while they are few and have time; and their work in seconds.
    pub(crate) bulk: f64,
    pub(crate) bulk_work: f64,
    /// Whether all of these may wait longer.
    pub(crate) has_time: bool,
    pub(crate) notes: Vec<Note>,
}

impl Want {
    /// The same in the units of each, with workers against losses.
    pub(crate) fn need(&self, spares: u32) -> Need {
        Need { prompt: f64::from(self.prompt.saturating_add(spares)), bulk: self.bulk }
    }
}

/// Decides what is wanted. `ready` is the capacity that works now.
pub(crate) fn want(
    policy: &PoolPolicy,
    (input, due): (&Input<'_>, &[Due]),
    memory: &mut PoolMemory,
    (outlook, terms): (&Outlook, &Terms),
    (ready, now): (f64, Timestamp),
) -> Want {
    let mut notes = Vec::new();
    let service = memory.demand.service.mean();
    let base = ceil(outlook.workers()).max(u32::from(outlook.load > NO_LOAD));
    let base = quiet_floor(input, memory, (base, terms), &mut notes);

    let mut for_now = base;
    if input.waiting > 0 {
        let times = (terms.boot.as_secs_f64(), service);
        let extra = backlog::workers(due, outlook.load - ready, times);
        for_now = for_now.max(ceil(outlook.workers() + BACKLOG_SHARE * extra)).max(1);
    }
    let span = terms.boot.mul_f64(HOLD_BOOTS).saturating_add(HOLD);
    let held = memory.wants.held(now, for_now, span);
    if held > for_now {
        notes.push(Note::HeldWant { now: for_now, held });
    }
    let wanted = held.saturating_add(policy.scaling.warm);
    let bounded = wanted.clamp(policy.scaling.min.min(policy.scaling.max), policy.scaling.max);
    if bounded != wanted {
        notes.push(Note::Bounded { wanted, bound: bounded });
    }
    let boot = terms.boot.as_secs_f64();
    let has_time = input.bulk.iter().all(|lot| patience::has_time(lot.left, lot.max_wait, boot));
    let work = |lot: &BulkLot<'_>| memory.demand.work([(lot.model, lot.jobs)].into_iter());
    let due = input.bulk.iter().map(|lot| (lot.left, work(lot)));
    let (rate, bulk_work) = bulk(due.collect(), boot);
    let little = patience::little(&policy.scaling, &memory.risks, terms.boot);
    let bulk = if has_time && bulk_work < little { 0.0 } else { rate };
    Want { prompt: bounded, for_backlog: for_now > base, bulk, bulk_work, has_time, notes }
}

/// The last worker of a silent pool goes if that is expected to be cheaper and no class forbids it.
fn quiet_floor(
    input: &Input<'_>,
    memory: &PoolMemory,
    (base, terms): (u32, &Terms),
    notes: &mut Vec<Note>,
) -> u32 {
    let floor = base.max(1);
    // Workers that run what may wait are not given up for that, and are not needed for the others.
    let running = input.running.saturating_sub(input.bulk_running);
    if base > 1 || input.waiting > 0 || running > 0 {
        return floor;
    }
    if let Some(class) = &terms.warm_for {
        notes.push(Note::KeptWarm { class: class.clone() });
        return floor;
    }
    let trade = Trade {
        boot: terms.boot,
        max_wait: terms.max_wait,
        service: memory.demand.service.mean(),
        allowed: 1.0 - terms.objective,
    };
    // A pool that has never had a job needs no worker.
    if memory.demand.history.is_untouched() {
        return 0;
    }
    match quiet::break_even(&memory.demand.history, &trade) {
        Some(break_even) => {
            notes.push(Note::Silence(break_even));
            if break_even.favors_none() { 0 } else { floor }
        }
        // A silence that is too short to tell.
        None => floor,
    }
}

/// The throughput that finishes every job which may wait by its time, and all their work: the steepest line
/// from the end of a boot to the work due by each time.
///
/// `due` holds the seconds that are left for so many seconds of work.
fn bulk(mut due: Vec<(f64, f64)>, boot: f64) -> (f64, f64) {
    due.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut work, mut rate) = (0.0, 0.0_f64);
    for (seconds, more) in due {
        work += more;
        // What cannot be in time any more is given one boot's time, lest it want infinitely many.
        rate = rate.max(work / (seconds - boot).max(boot.max(60.0)));
    }
    (rate, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bulk_backlog_needs_the_steepest_of_its_deadlines() {
        let (rate, work) = bulk(vec![(3780.0, 1000.0), (780.0, 300.0)], 180.0);
        assert!((work - 1300.0).abs() < 1e-9);
        // 300 s of work within 600 s, or 1300 s within 3600 s.
        assert!((rate - 0.5).abs() < 1e-9, "{rate}");
    }

    #[test]
    fn what_is_late_already_does_not_want_infinitely_many() {
        let (rate, _) = bulk(vec![(-5.0, 180.0)], 180.0);
        assert!((rate - 1.0).abs() < 1e-9, "{rate}");
        assert!(bulk(Vec::new(), 180.0).0 == 0.0);
    }
}
