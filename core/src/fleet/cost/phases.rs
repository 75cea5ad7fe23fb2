//! A machine's bill by day and phase of its life.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fleet::caps::{calendar, midnight};
use crate::fleet::ledger::{Ending, Entry, Leave, State, span};
use crate::fleet::spec::CapacityType;
use crate::ids::{OfferingName, PoolName};
use crate::money::Money;
use crate::time::Timestamp;

use super::Period;

/// What a worker was there for is told apart later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Boot,
    Serving,
    Lost,
}

/// Machines of one kind on one day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) day: i64,
    pub(super) pool: PoolName,
    pub(super) offering: OfferingName,
    pub(super) spot: bool,
    pub(super) phase: Phase,
}

/// What they cost and how long they were there, added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Part {
    pub(super) money: Money,
    pub(super) time: Duration,
}

impl Key {
    pub(super) const fn capacity(&self) -> CapacityType {
        if self.spot { CapacityType::Spot } else { CapacityType::OnDemand }
    }
}

/// Adds the parts of a machine's bill that are in the period.
pub(super) fn add(entry: &Entry, period: Period, now: Timestamp, parts: &mut BTreeMap<Key, Part>) {
    let Some((begin, end)) = span(entry, now) else { return };
    // What was spent up to a time, so that however the bill is cut, the pieces add up to it.
    let price = entry.order.price;
    let spent = |at: Timestamp| price.of(at.since(begin));
    let until = end.min(period.until);
    let mut from = begin.max(period.from);
    while from < until {
        let (day, _) = calendar(from);
        let midnight = midnight(day + 1);
        // Beyond the calendar's end there is no midnight to come to.
        let midnight = if midnight > from { midnight } else { until };
        let (phase, phase_ends) = phase(entry, from);
        let to = until.min(midnight).min(phase_ends);
        let key = Key {
            day,
            pool: entry.order.pool.clone(),
            offering: entry.order.offering.clone(),
            spot: entry.order.capacity == CapacityType::Spot,
            phase,
        };
        let part = parts.entry(key).or_default();
        let money = spent(to).micros().saturating_sub(spent(from).micros());
        part.money = part.money.plus(Money::from_micros(money));
        part.time = part.time.saturating_add(to.since(from));
        from = to;
    }
}

/// The phase that a time is in, and when that ends, which is later.
fn phase(entry: &Entry, at: Timestamp) -> (Phase, Timestamp) {
    let times = &entry.times;
    let Some(ready) = times.ready else {
        let phase = if taken_back(&entry.state) { Phase::Lost } else { Phase::Boot };
        return (phase, Timestamp::MAX);
    };
    if at < ready {
        return (Phase::Boot, ready);
    }
    // A warning that is called off, or overtaken by our own ending it, has cost nothing.
    let lost = times.noticed.filter(|_| taken_back(&entry.state)).map(|noticed| noticed.max(ready));
    match lost {
        Some(lost) if at >= lost => (Phase::Lost, Timestamp::MAX),
        Some(lost) => (Phase::Serving, lost),
        None => (Phase::Serving, Timestamp::MAX),
    }
}

/// Whether the provider took it, or is about to.
fn taken_back(state: &State) -> bool {
    match state {
        State::Gone { why, .. } => match why {
            Ending::Interrupted | Ending::Terminated(Leave::Interrupted) => true,
            Ending::Terminated(_) | Ending::Elsewhere | Ending::Vanished => false,
        },
        State::Draining { why, .. } | State::Terminating { why, .. } => *why == Leave::Interrupted,
        State::Intended
        | State::Requested { .. }
        | State::Launched { .. }
        | State::Ready { .. }
        | State::Failed { .. } => false,
    }
}
