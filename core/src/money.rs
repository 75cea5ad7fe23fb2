//! Money as whole micro-dollars, so that sums are exact and prices compare.

use std::fmt;
use std::iter::Sum;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An amount in millionths of a US dollar.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Money(i64);

impl Money {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(i64::MAX);

    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Dollars as written in a file; `None` unless they are a number from 0 to a billion.
    #[expect(clippy::cast_possible_truncation, reason = "at most 10^15, which an i64 holds")]
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        (0.0..=1e9).contains(&dollars).then(|| Self((dollars * 1e6).round() as i64))
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    #[expect(clippy::cast_precision_loss, reason = "for ratios and display")]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e6
    }

    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The amount `count` times.
    #[must_use]
    pub fn times(self, count: u32) -> Self {
        Self(self.0.saturating_mul(i64::from(count)))
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::plus)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${:.2}", self.dollars())
    }
}

/// A price per hour of an instance.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct HourlyPrice(Money);

impl HourlyPrice {
    pub const fn new(per_hour: Money) -> Self {
        Self(per_hour)
    }

    /// What an hour costs.
    pub const fn hour(self) -> Money {
        self.0
    }

    /// What `time` costs, rounded down.
    pub fn of(self, time: Duration) -> Money {
        let micros =
            i128::from(self.0.0).saturating_mul(time.as_millis().cast_signed()) / 3_600_000;
        Money(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for HourlyPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${:.3}/h", self.0.dollars())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plausible_dollars_are_money() {
        assert_eq!(Money::from_dollars(1.006), Some(Money::from_micros(1_006_000)));
        for absurd in [-0.01, f64::NAN, f64::INFINITY, 2e9] {
            assert_eq!(Money::from_dollars(absurd), None, "{absurd}");
        }
    }

    #[test]
    fn a_price_is_charged_by_time() {
        let price = HourlyPrice::new(Money::from_micros(3_600_000));
        assert_eq!(price.of(Duration::from_mins(1)), Money::from_micros(60_000));
        assert_eq!(price.of(Duration::MAX), Money::MAX);
    }

    #[test]
    fn sums_saturate() {
        assert_eq!([Money::MAX, Money::MAX].into_iter().sum::<Money>(), Money::MAX);
        assert_eq!(Money::MAX.times(2), Money::MAX);
        assert_eq!(Money::from_micros(1_500_000).to_string(), "$1.50");
    }
}
