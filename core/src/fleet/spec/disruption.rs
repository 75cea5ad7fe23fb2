//! How many machines may be taken out at a time for reasons that can wait.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Of the fleet, or of a pool that has its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DisruptionSpec {
    /// Each holds for its reasons; of several the one that allows the least.
    pub budgets: Vec<DisruptionBudgetSpec>,
}

/// One budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DisruptionBudgetSpec {
    /// Left out: every reason but `empty`.
    pub reasons: Option<Vec<DisruptionReason>>,
    /// Machines of a pool that wait for their successors or drain.
    pub at_a_time: AtATime,
    /// When it holds. Left out: all day.
    pub window: Option<Window>,
    /// The days on which it holds, or on which its window begins. Left out: every day.
    pub days: Option<Vec<Day>>,
}

/// Why a machine is taken out that could as well stay for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DisruptionReason {
    /// It is older than it may be.
    Expired,
    /// It runs an old configuration.
    Outdated,
    /// A cheaper one can be had.
    Cheaper,
    /// Machines of other sizes cost less for what is needed.
    Resized,
    /// There have been more workers than are wanted, all of them busy.
    Spare,
    /// It is idle, and there are more workers than are wanted.
    Empty,
}

/// How many: a number, or a share of a pool's workers, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtATime {
    Count(u32),
    /// 0 to 100.
    Percent(u8),
}

/// A part of the day in UTC, such as `08:00-20:00`; one that ends before it begins goes over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Minutes after midnight, below 1440, and never equal.
    pub from: u16,
    pub until: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Text that says neither how many nor when.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseBudgetError {
    #[error("`{text}` is not a number such as 3 or a share such as \"25%\"")]
    AtATime { text: String },
    #[error("`{text}` is not a part of the day such as \"08:00-20:00\"")]
    Window { text: String },
    #[error("`{text}` is empty: leave `window` out for the whole day")]
    EmptyWindow { text: String },
}

impl DisruptionReason {
    pub const ALL: [Self; 6] =
        [Self::Expired, Self::Outdated, Self::Cheaper, Self::Resized, Self::Spare, Self::Empty];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Outdated => "outdated",
            Self::Cheaper => "cheaper",
            Self::Resized => "resized",
            Self::Spare => "spare",
            Self::Empty => "empty",
        }
    }
}

impl Day {
    /// From Monday on.
    pub const ALL: [Self; 7] =
        [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Mon => "mon",
            Self::Tue => "tue",
            Self::Wed => "wed",
            Self::Thu => "thu",
            Self::Fri => "fri",
            Self::Sat => "sat",
            Self::Sun => "sun",
        }
    }
}

impl fmt::Display for DisruptionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for AtATime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for AtATime {
    type Err = ParseBudgetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ParseBudgetError::AtATime { text: text.to_owned() };
        match text.strip_suffix('%') {
            Some(share) => {
                let percent = share.parse().ok().filter(|percent| *percent <= 100);
                percent.map(Self::Percent).ok_or_else(invalid)
            }
            None => text.parse().map(Self::Count).map_err(|_| invalid()),
        }
    }
}

impl Serialize for AtATime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for AtATime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = AtATime;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as 3 or a share such as \"25%\"")
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<AtATime, E> {
                self.visit_str(&count.to_string())
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<AtATime, E> {
                self.visit_str(&count.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AtATime, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, until) = (self.from, self.until);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)
    }
}

impl FromStr for Window {
    type Err = ParseBudgetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let two = |digits: &str| {
            let all = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            all.then(|| digits.parse::<u16>().ok()).flatten()
        };
        let minute = |time: &str| {
            let (hours, minutes) = time.trim().split_once(':')?;
            let (hours, minutes) = (two(hours)?, two(minutes)?);
            (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
        };
        let times = text.split_once('-');
        match times.and_then(|(from, until)| Some((minute(from)?, minute(until)?))) {
            None => Err(ParseBudgetError::Window { text: text.to_owned() }),
            Some((from, until)) if from == until => {
                Err(ParseBudgetError::EmptyWindow { text: text.to_owned() })
            }
            Some((from, until)) => Ok(Self { from, until }),
        }
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["0", "3", "0%", "25%", "100%"] {
            assert_eq!(text.parse::<AtATime>().unwrap().to_string(), text);
        }
        for text in ["08:00-20:00", "22:30-06:15", "00:00-23:59"] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_number_share_or_part_of_the_day_is_refused() {
        for text in ["", "-1", "101%", "2.5", "1e9", "99999999999", "%", "half", "300%"] {
            let error = text.parse::<AtATime>().unwrap_err().to_string();
            assert!(error.contains("such as"), "{text}: {error}");
        }
        for text in
            ["", "8-20", "08:00", "24:00-06:00", "08:60-09:00", "08:00-20:00-21:00", "+8:00-20:00"]
        {
            let error = text.parse::<Window>().unwrap_err();
            assert!(matches!(error, ParseBudgetError::Window { .. }), "{text}: {error}");
        }
        let empty = "08:00-08:00".parse::<Window>().unwrap_err().to_string();
        assert!(empty.contains("leave `window` out"), "{empty}");
    }
}
