//! What bounds the bill: instances, launches, and money by the hour, day and month.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::money::{HourlyPrice, Money};
use crate::time::Timestamp;

use super::check::Budget;
use super::ledger::Spend;

/// Launches are counted over this long.
pub(crate) const LAUNCH_WINDOW: Duration = Duration::from_mins(10);
/// Launches that are remembered; more in a window is more than any budget allows.
const LAUNCHES_KEPT: usize = 10_000;
pub(crate) const DAY_MS: i64 = 86_400_000;
/// A gap in the observation that is longer is charged as if it were this long.
const LONGEST_GAP: Duration = Duration::from_hours(6);

/// A bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cap {
    Instances(u32),
    Launches(u32),
    PerHour(Money),
    PerDay(Money),
    PerMonth(Money),
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instances(n) => write!(f, "the budget of {n} instances"),
            Self::Launches(n) => write!(f, "the budget of {n} launches in ten minutes"),
            Self::PerHour(money) => write!(f, "the budget of {money} an hour"),
            Self::PerDay(money) => write!(f, "the budget of {money} a day"),
            Self::PerMonth(money) => write!(f, "the budget of {money} a month"),
        }
    }
}

/// What was launched lately and spent so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Ledger {
    launches: VecDeque<Timestamp>,
    spend: Spend,
}

/// What may still be bought in this plan.
#[derive(Debug, Clone)]
pub(crate) struct Allowance {
    budget: Budget,
    instances: u32,
    launches: u32,
    per_hour: Money,
    day_spent: Money,
    month_spent: Money,
}

impl Allowance {
    /// What the budget leaves, when so much is there and was launched and spent.
    pub(crate) fn of(
        budget: &Budget,
        (instances, per_hour): (u32, Money),
        launches: u32,
        (day_spent, month_spent): (Money, Money),
    ) -> Self {
        Self { budget: *budget, instances, launches, per_hour, day_spent, month_spent }
    }
}

impl Ledger {
    /// Charges the time since the last call for what costs `per_hour` now.
    pub(crate) fn charge(&mut self, per_hour: Money, now: Timestamp) {
        let now = self.spend.charge_rate(HourlyPrice::new(per_hour), LONGEST_GAP, now);
        while self.launches.front().is_some_and(|at| now.since(*at) > LAUNCH_WINDOW) {
            self.launches.pop_front();
        }
    }

    /// What may be bought besides `instances` that cost `per_hour`.
    pub(crate) fn allowance(&self, budget: &Budget, instances: u32, per_hour: Money) -> Allowance {
        Allowance {
            budget: *budget,
            instances,
            launches: u32::try_from(self.launches.len()).unwrap_or(u32::MAX),
            per_hour,
            day_spent: self.spend.day_spent,
            month_spent: self.spend.month_spent,
        }
    }

    pub(crate) fn launched(&mut self, count: u32, now: Timestamp) {
        let now = now.max(self.spend.charged_until.unwrap_or(now));
        for _ in 0..count {
            if self.launches.len() == LAUNCHES_KEPT {
                self.launches.pop_front();
            }
            self.launches.push_back(now);
        }
    }
}

impl Allowance {
    /// How many of `count` may be launched at `price` an hour, and what forbids the others. What a launch costs
    /// until the end of the day or month is not known, so an hour of it has to fit.
    pub(crate) fn take(&mut self, count: u32, price: Money) -> (u32, Option<Cap>) {
        for taken in 0..count {
            if let Some(cap) = self.forbids(price) {
                return (taken, Some(cap));
            }
            self.instances = self.instances.saturating_add(1);
            self.launches = self.launches.saturating_add(1);
            self.per_hour = self.per_hour.plus(price);
        }
        (count, None)
    }

    /// Whether one may be launched at the price of `new` an hour once one at that of `old` has gone.
    pub(crate) fn permits_after(&self, old: Money, new: Money) -> bool {
        let per_hour = Money::from_micros(self.per_hour.micros().saturating_sub(old.micros()));
        let instances = self.instances.saturating_sub(1);
        Self { instances, per_hour, ..self.clone() }.forbids(new).is_none()
    }

    fn forbids(&self, price: Money) -> Option<Cap> {
        let Budget { max_instances, max_launches, per_hour, per_day, per_month, at_limit: _ } =
            self.budget;
        let rate = self.per_hour.plus(price);
        if self.instances >= max_instances {
            Some(Cap::Instances(max_instances))
        } else if self.launches >= max_launches {
            Some(Cap::Launches(max_launches))
        } else if rate > per_hour {
            Some(Cap::PerHour(per_hour))
        } else if self.day_spent.plus(rate) > per_day {
            Some(Cap::PerDay(per_day))
        } else if self.month_spent.plus(rate) > per_month {
            Some(Cap::PerMonth(per_month))
        } else {
            None
        }
    }
}

/// Number of the day since the epoch, and of the month since the year 0.
pub(crate) fn calendar(at: Timestamp) -> (i64, i64) {
    // The year 2 000 000 is far enough, and keeps the arithmetic in range.
    let day = at.as_unix_millis().div_euclid(DAY_MS).clamp(-719_468, 700_000_000);
    // Years are counted from March, so that the day which some have more is their last; the months then repeat
    // 31, 30, 31, 30, 31 days, which (5 d + 2) / 153 counts off.
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    (day, (era * 400 + year) * 12 + month)
}

/// How much of a span that begins at `now` belongs to the same day, and how much to the same month (UTC).
pub(crate) fn rest_of_day_and_month(span: Duration, now: Timestamp) -> (Duration, Duration) {
    let (day, month) = calendar(now);
    let of_day = span.min(midnight(day + 1).since(now));
    let ends = calendar(midnight(day + 1)).1 != month;
    (of_day, if ends { of_day } else { span })
}

/// The first moment of a day.
pub(crate) const fn midnight(day: i64) -> Timestamp {
    Timestamp::from_unix_millis(day.saturating_mul(DAY_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64, hour: i64) -> Timestamp {
        Timestamp::from_unix_millis(day * DAY_MS + hour * 3_600_000)
    }

    const DOLLAR: Money = Money::from_micros(1_000_000);

    #[test]
    fn months_have_their_lengths() {
        let lengths: Vec<usize> = {
            // 2024, a leap year, starts on day 19 723.
            let months: Vec<i64> = (19_723..20_089).map(|day| calendar(at(day, 12)).1).collect();
            months.chunk_by(|a, b| a == b).map(<[i64]>::len).collect()
        };
        assert_eq!(lengths, [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]);
    }

    #[test]
    fn a_span_is_cut_at_the_end_of_the_day_and_of_the_month() {
        let minutes = Duration::from_mins;
        let late = |day| at(day, 23).after(minutes(45));
        assert_eq!(rest_of_day_and_month(minutes(30), at(0, 23)), (minutes(30), minutes(30)));
        assert_eq!(rest_of_day_and_month(minutes(30), late(0)), (minutes(15), minutes(30)));
        // The 31st of January 1970.
        assert_eq!(rest_of_day_and_month(minutes(30), late(30)), (minutes(15), minutes(15)));
    }

    #[test]
    fn a_budget_is_spent_once_and_comes_back_with_the_day() {
        let budget = Budget { per_day: DOLLAR.times(10), ..Budget::default() };
        let mut ledger = Ledger::default();
        ledger.charge(DOLLAR.times(4), at(100, 0));
        ledger.charge(DOLLAR.times(4), at(100, 2));
        let allowed = |ledger: &Ledger| ledger.allowance(&budget, 0, Money::ZERO).take(9, DOLLAR);
        assert_eq!(allowed(&ledger), (2, Some(Cap::PerDay(DOLLAR.times(10)))));
        ledger.charge(DOLLAR.times(4), at(100, 1));
        assert_eq!(allowed(&ledger).0, 2, "a clock that goes back charges and resets nothing");
        ledger.charge(Money::ZERO, at(101, 0));
        assert_eq!(allowed(&ledger), (9, None));
    }

    #[test]
    fn launches_and_instances_are_counted() {
        let budget = Budget { max_launches: 3, max_instances: 5, ..Budget::default() };
        let mut ledger = Ledger::default();
        ledger.charge(Money::ZERO, at(0, 0));
        ledger.launched(2, at(0, 0));
        let mut allowance = ledger.allowance(&budget, 0, Money::ZERO);
        assert_eq!(allowance.take(5, DOLLAR), (1, Some(Cap::Launches(3))));
        ledger.charge(Money::ZERO, at(0, 1));
        let mut allowance = ledger.allowance(&budget, 3, Money::ZERO);
        assert_eq!(allowance.take(5, DOLLAR), (2, Some(Cap::Instances(5))));
        assert!(allowance.permits_after(DOLLAR, DOLLAR), "another may take its place");
        let full = ledger.allowance(&Budget { max_launches: 0, ..budget }, 5, Money::ZERO);
        assert!(!full.permits_after(DOLLAR, DOLLAR), "there would be no launch for it");
    }

    #[test]
    fn what_takes_the_place_of_another_is_paid_for_by_its_price() {
        let budget = Budget { per_hour: DOLLAR.times(5), ..Budget::default() };
        let allowance = Ledger::default().allowance(&budget, 5, DOLLAR.times(5));
        assert_eq!(allowance.clone().take(1, DOLLAR).0, 0);
        assert!(allowance.permits_after(DOLLAR, DOLLAR));
        assert!(!allowance.permits_after(DOLLAR, DOLLAR.times(2)), "a dearer one does not fit");
    }
}
