//! What machines cost: of one entry exactly, and of all of them by day and month.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fleet::caps::{calendar, midnight};
use crate::fleet::cost::{forecast, month_begin};
use crate::ids::MachineId;
use crate::money::{HourlyPrice, Money};
use crate::time::Timestamp;

use super::entry::Entry;

/// EC2 bills at least this much of a machine.
const LEAST_BILL: Duration = Duration::from_mins(1);

/// A gap in the observation beyond this is not charged day by day; nothing in it is in this month.
const LONGEST_GAP: Duration = Duration::from_hours(62 * 24);

/// What was spent in the current day and month (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spend {
    /// Up to when it was charged. Never goes back, so that nothing is charged twice and no window starts anew when
    /// a clock jumps.
    pub charged_until: Option<Timestamp>,
    /// Number of the day since 1970, and of the month since the year 0.
    pub day: i64,
    pub month: i64,
    pub day_spent: Money,
    pub month_spent: Money,
}

impl Spend {
    /// Charges for everything from the last call up to `now`, at the prices of the launches. Entries that ended since
    /// then have to be among them.
    pub fn charge(&mut self, entries: &BTreeMap<MachineId, Entry>, now: Timestamp) {
        self.charge_at(entries, |entry| entry.order.price, now);
    }

    /// Charges as [`charge`](Self::charge) does, at what machines cost at present.
    ///
    /// What may have been asked for is charged from then on: too much for what turns out never to have been there,
    /// and never too little.
    pub fn charge_at(
        &mut self,
        entries: &BTreeMap<MachineId, Entry>,
        price: impl Fn(&Entry) -> HourlyPrice,
        now: Timestamp,
    ) {
        let Some(last) = self.charged_until else {
            (self.day, self.month) = calendar(now);
            self.charged_until = Some(now);
            return;
        };
        let mut from = last.max(now.before(LONGEST_GAP));
        while from < now {
            let day = self.turn(from);
            let until = now.min(midnight(day + 1).max(from.after(Duration::from_millis(1))));
            let spent = |entry: &Entry| price(entry).of(paid_for(entry, (from, until), now));
            let spent: Money = entries.values().map(spent).sum();
            self.day_spent = self.day_spent.plus(spent);
            self.month_spent = self.month_spent.plus(spent);
            from = until;
        }
        if now > last {
            self.turn(now);
            self.charged_until = Some(now);
        }
    }

    /// Charges the time since the last call, and at most the `longest`, for what costs so much an hour. Answers the
    /// latest time that was seen.
    pub(crate) fn charge_rate(
        &mut self,
        per_hour: HourlyPrice,
        longest: Duration,
        now: Timestamp,
    ) -> Timestamp {
        let last = self.charged_until.unwrap_or(now);
        let now = now.max(last);
        self.turn(now);
        self.owe(per_hour.of(now.since(last).min(longest)));
        self.charged_until = Some(now);
        now
    }

    /// Adds what turned out to be owed from before.
    pub fn owe(&mut self, money: Money) {
        self.day_spent = self.day_spent.plus(money);
        self.month_spent = self.month_spent.plus(money);
    }

    /// What this month will have cost at its end, if it goes on as it did so far.
    pub fn forecast(&self, now: Timestamp) -> Money {
        // Less than an hour says nothing about a month.
        let so_far = now.since(month_begin(now)).max(Duration::from_hours(1));
        forecast(self.month_spent, self.month_spent, so_far, now)
    }

    /// Begins a new day or month, if `at` is in one; answers the day.
    fn turn(&mut self, at: Timestamp) -> i64 {
        let (day, month) = calendar(at);
        if day != self.day {
            (self.day, self.day_spent) = (day, Money::ZERO);
        }
        if month != self.month {
            (self.month, self.month_spent) = (month, Money::ZERO);
        }
        day
    }
}

/// What a machine has cost up to `now`, at the price of its launch.
pub fn cost(entry: &Entry, now: Timestamp) -> Money {
    let begin = Timestamp::from_unix_millis(i64::MIN);
    entry.order.price.of(paid_for(entry, (begin, Timestamp::MAX), now))
}

/// From when and until when it is paid for, up to `now`; `None` before it was asked for.
pub fn span(entry: &Entry, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let times = &entry.times;
    let end = match (times.ended, times.launched) {
        (None, _) => now,
        (Some(ended), None) => ended,
        (Some(ended), Some(launched)) => ended.max(launched.after(LEAST_BILL)),
    };
    Some((times.requested?, end))
}

fn paid_for(entry: &Entry, (from, until): (Timestamp, Timestamp), now: Timestamp) -> Duration {
    let span = span(entry, now);
    span.map_or(Duration::ZERO, |(begin, end)| end.min(until).since(begin.max(from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_goes_on_as_it_did() {
        let spent = |dollars: i64| Spend {
            month_spent: Money::from_micros(dollars * 1_000_000),
            ..Spend::default()
        };
        // 2026-11-26 00:00 UTC: 25 of 30 days.
        let now = Timestamp::from_unix_millis(1_795_651_200_000);
        assert_eq!(spent(100).forecast(now), Money::from_micros(120_000_000));
        // The first hour is not taken for the whole.
        let first = Timestamp::from_unix_millis(1_793_491_200_000);
        assert_eq!(spent(1).forecast(first), Money::from_micros(721_000_000));
        let last = Timestamp::from_unix_millis(1_796_083_199_999);
        assert_eq!(spent(300).forecast(last), Money::from_micros(300_000_000));
        assert_eq!(spent(0).forecast(now), Money::ZERO);
    }
}
