//! Points in time as values; nothing here reads a clock.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The latest representable time: "no deadline" sorts last.
    pub const MAX: Self = Self(i64::MAX);

    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub const fn as_unix_millis(self) -> i64 {
        self.0
    }

    /// This time plus `duration`, saturating at [`Timestamp::MAX`].
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This time minus `duration`, saturating.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Its day in UTC, such as `2026-01-02`. Before 1970 and after 9999 it is the nearest day between them.
    pub fn date(self) -> String {
        const LAST: i64 = 253_402_300_799_999;
        let since_epoch = u64::try_from(self.0.clamp(0, LAST)).unwrap_or(0);
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(since_epoch);
        let text = humantime::format_rfc3339_seconds(time).to_string();
        text.chars().take_while(|letter| *letter != 'T').collect()
    }

    /// Time that passed from `earlier` to `self`; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        let difference = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(difference).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_of_utc_and_within_bounds() {
        for (millis, date) in [
            (0, "1970-01-01"),
            (86_399_999, "1970-01-01"),
            (86_400_000, "1970-01-02"),
            (1_767_312_000_000, "2026-01-02"),
            (-1, "1970-01-01"),
            (i64::MAX, "9999-12-31"),
        ] {
            assert_eq!(Timestamp::from_unix_millis(millis).date(), date);
        }
    }
}
