//! Money for people.

use stoker_core::money::Money;

use super::text::grouped;

/// Dollars and cents, rounded: `$1,234.56`.
pub(crate) fn dollars(money: Money) -> String {
    let cents = money.micros().unsigned_abs().saturating_add(5_000) / 10_000;
    let sign = if money.micros() < 0 && cents > 0 { "-" } else { "" };
    format!("{sign}${}.{:02}", grouped(cents / 100), cents % 100)
}

/// An amount beside its bound: `$1.50 of $10.00`, `$1.50, no cap`.
pub(crate) fn of_cap(money: Money, cap: Option<Money>) -> String {
    match cap {
        None => dollars(money),
        Some(Money::MAX) => format!("{}, no cap", dollars(money)),
        Some(cap) => format!("{} of {}", dollars(money), dollars(cap)),
    }
}

/// What is spent in a time, beside its bound: `$1.50 of $10.00 today`, `$1.50 today (no cap)`.
pub(crate) fn of_cap_in(money: Money, cap: Option<Money>, time: &str) -> String {
    match cap {
        Some(Money::MAX) => format!("{} {time} (no cap)", dollars(money)),
        None | Some(_) => format!("{} {time}", of_cap(money, cap)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_rounded_to_cents_and_grouped() {
        for (micros, text) in [
            (0, "$0.00"),
            (4_999, "$0.00"),
            (5_000, "$0.01"),
            (1_234_567_890, "$1,234.57"),
            (-2_000_000, "-$2.00"),
            (-1, "$0.00"),
        ] {
            assert_eq!(dollars(Money::from_micros(micros)), text);
        }
        let dollar = Money::from_micros(1_000_000);
        assert_eq!(of_cap(dollar, Some(dollar.times(9))), "$1.00 of $9.00");
        assert_eq!(of_cap(dollar, Some(Money::MAX)), "$1.00, no cap");
        assert_eq!(of_cap(dollar, None), "$1.00");
        assert_eq!(of_cap_in(dollar, Some(dollar.times(9)), "today"), "$1.00 of $9.00 today");
        assert_eq!(of_cap_in(dollar, Some(Money::MAX), "an hour"), "$1.00 an hour (no cap)");
        assert_eq!(of_cap_in(dollar, None, "an hour"), "$1.00 an hour");
    }
}
