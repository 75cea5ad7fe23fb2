//! What a month will have cost.

use std::time::Duration;

use crate::fleet::caps::{calendar, midnight};
use crate::money::Money;
use crate::time::Timestamp;

/// What the month of `now` (UTC) will have cost at its end: what was spent in it, and for the rest of it what was
/// spent per time lately. `recent` is the money of the last `over`.
pub fn forecast(month_spent: Money, recent: Money, over: Duration, now: Timestamp) -> Money {
    let millis = |time: Duration| i128::try_from(time.as_millis()).unwrap_or(i128::MAX);
    let rest = i128::from(recent.micros()).saturating_mul(millis(month_end(now).since(now)));
    let rest = rest.checked_div(millis(over)).unwrap_or(0);
    month_spent.plus(Money::from_micros(i64::try_from(rest).unwrap_or(i64::MAX)))
}

/// The first moment of the month of `now`.
pub(crate) fn month_begin(now: Timestamp) -> Timestamp {
    let (today, month) = calendar(now);
    let of_month = |day: &i64| calendar(midnight(*day)).1 == month;
    midnight((0..31).map(|days| today - days).take_while(of_month).last().unwrap_or(today))
}

/// The first moment of the next month.
fn month_end(now: Timestamp) -> Timestamp {
    let (today, month) = calendar(now);
    let next = (1..=31).map(|days| midnight(today + days)).find(|day| calendar(*day).1 != month);
    next.unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::caps::DAY_MS;

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
