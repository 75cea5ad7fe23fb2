//! What a month will have cost.

use std::time::Duration;

use crate::fleet::caps::{DAY_MS, calendar};
use crate::money::{HourlyPrice, Money};
use crate::time::Timestamp;

/// What the month of `now` (UTC) will have cost at its end: what was spent in it, and for the rest of it what was
/// spent per time lately. `recent` is the money of the last `over`.
pub fn forecast(month_spent: Money, recent: Money, over: Duration, now: Timestamp) -> Money {
    let millis = i128::try_from(over.as_millis()).unwrap_or(i128::MAX);
    let hour = i128::from(recent.micros()).saturating_mul(3_600_000).checked_div(millis);
    let hour = i64::try_from(hour.unwrap_or(0)).unwrap_or(i64::MAX);
    let rest = HourlyPrice::new(Money::from_micros(hour)).of(month_end(now).since(now));
    month_spent.plus(rest)
}

/// The first moment of the next month.
fn month_end(now: Timestamp) -> Timestamp {
    let (today, month) = calendar(now);
    let midnight = |day: i64| Timestamp::from_unix_millis(day.saturating_mul(DAY_MS));
    let next = (1..=31).map(|days| midnight(today + days)).find(|day| calendar(*day).1 != month);
    next.unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_month_goes_on_as_lately() {
        // 2024-02-27 12:00 UTC: two and a half days of a leap year's February are left.
        let now = Timestamp::from_unix_millis(19_780 * DAY_MS + DAY_MS / 2);
        let dollar = Money::from_micros(1_000_000);
        let lately = (dollar.times(14), Duration::from_hours(7 * 24));
        assert_eq!(forecast(dollar.times(50), lately.0, lately.1, now), dollar.times(55));
        assert_eq!(forecast(dollar, Money::ZERO, Duration::ZERO, now), dollar);
        assert_eq!(month_end(now), Timestamp::from_unix_millis(19_783 * DAY_MS));
    }
}
