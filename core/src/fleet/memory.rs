//! What the planner remembers from one plan to the next.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{OfferingName, PoolName};
use crate::time::Timestamp;

use super::caps::Ledger;
use super::counters::Counters;
use super::demand::Demand;
use super::sizing::resize::Resize;
use super::spot::Risk;
use super::ties::Ties;

/// All of it; a value that can be stored. Empty at first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    pub(crate) pools: BTreeMap<PoolName, PoolMemory>,
    pub(crate) ledger: Ledger,
}

impl Memory {
    /// What another process learned. Its totals count from its own start and mean nothing to this one.
    #[must_use]
    pub fn taken_over(mut self) -> Self {
        for pool in self.pools.values_mut() {
            pool.counters = None;
        }
        self
    }
}

/// What one pool has taught.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct PoolMemory {
    pub(crate) demand: Demand,
    /// Totals at the last look.
    pub(crate) counters: Option<Counters>,
    pub(crate) boot: BootTimes,
    pub(crate) wants: Wants,
    pub(crate) risks: BTreeMap<OfferingName, Risk>,
    #[serde(default)]
    pub(crate) ties: Ties,
    /// Since when there have been more workers than are wanted, and none that is idle can go.
    #[serde(default)]
    pub(crate) surplus_since: Option<Timestamp>,
    #[serde(default)]
    pub(crate) resize: Resize,
    pub(crate) planned_at: Option<Timestamp>,
}

/// How long launches took to become workers.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct BootTimes {
    mean: Option<Duration>,
    /// Instances that were ready by then have been counted.
    counted: Option<Timestamp>,
}

impl BootTimes {
    /// Takes in instances as (launched, ready).
    pub(crate) fn observe(&mut self, boots: impl Iterator<Item = (Timestamp, Timestamp)>) {
        let counted = self.counted;
        for (launched, ready) in boots.filter(|(_, ready)| counted.is_none_or(|c| *ready > c)) {
            let took = ready.since(launched);
            self.mean = Some(self.mean.map_or(took, |mean| (mean * 7 + took) / 8));
            self.counted = self.counted.max(Some(ready));
        }
    }

    /// The mean, or what was expected before anything was measured.
    pub(crate) fn or(&self, expected: Duration) -> Duration {
        // A measurement that says "at once" or "hours" is about something else.
        let plausible = expected / 8..=expected.saturating_mul(8);
        self.mean.filter(|mean| plausible.contains(mean)).unwrap_or(expected)
    }
}

/// The most that was wanted lately, so that a worker is not given up for a moment's lull.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Wants {
    /// Oldest first, each more than those after it.
    peaks: VecDeque<(Timestamp, u32)>,
}

impl Wants {
    /// Notes what is wanted now and returns the most within `hold`.
    pub(crate) fn held(&mut self, now: Timestamp, want: u32, hold: Duration) -> u32 {
        while self.peaks.back().is_some_and(|(at, peak)| *peak <= want || *at > now) {
            self.peaks.pop_back();
        }
        self.peaks.push_back((now, want));
        while self.peaks.front().is_some_and(|(at, _)| now.since(*at) > hold) {
            self.peaks.pop_front();
        }
        self.peaks.front().map_or(want, |(_, peak)| *peak)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_millis(seconds * 1000)
    }

    #[test]
    fn a_want_is_held_and_then_given_up() {
        let (mut wants, hold) = (Wants::default(), Duration::from_mins(1));
        let seen: Vec<u32> = [(0, 3), (30, 1), (60, 2), (61, 1), (121, 1)]
            .into_iter()
            .map(|(second, want)| wants.held(at(second), want, hold))
            .collect();
        assert_eq!(seen, [3, 3, 3, 2, 1]);
    }

    #[test]
    fn a_boot_is_counted_once_and_an_implausible_mean_is_not_believed() {
        let (mut boots, expected) = (BootTimes::default(), Duration::from_mins(3));
        assert_eq!(boots.or(expected), expected);
        boots.observe([(at(0), at(100))].into_iter());
        boots.observe([(at(0), at(100))].into_iter());
        assert_eq!(boots.or(expected), Duration::from_secs(100));
        boots.observe([(at(0), at(1_000_000))].into_iter());
        assert_eq!(boots.or(expected), expected);
    }
}
