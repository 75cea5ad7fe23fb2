//! Durations and sizes as people write them: `30s`, `5m`, `256KiB`, `1MB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DURATION_FORM: &str = "a duration such as \"500ms\", \"30s\", \"5m\" or \"1h 30m\"";
const SIZE_FORM: &str = "a size such as \"512B\", \"256KiB\", \"4MiB\" or \"1MB\"";

/// A longer duration is a typo, and far beyond it clocks overflow.
const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

/// Text that is not a duration or a size, with the accepted form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseUnitError {
    #[error("`{text}` is not {DURATION_FORM}")]
    Duration { text: String },
    #[error("`{text}` is too long: the limit is 100 years")]
    TooLong { text: String },
    #[error("`{text}` is not {SIZE_FORM}")]
    Size { text: String },
    #[error("`{text}` is too large: the limit is 8191PiB")]
    TooLarge { text: String },
}

/// A duration that is written like `30s`, `5m` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(Duration);

impl HumanDuration {
    pub const fn new(duration: Duration) -> Self {
        Self(duration)
    }

    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<HumanDuration> for Duration {
    fn from(human: HumanDuration) -> Self {
        human.0
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl FromStr for HumanDuration {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let duration = humantime::parse_duration(text.trim())
            .map_err(|_| ParseUnitError::Duration { text: shorten(text) })?;
        if duration > LONGEST {
            return Err(ParseUnitError::TooLong { text: shorten(text) });
        }
        Ok(Self(duration))
    }
}

/// A number of bytes that is written like `256KiB`, `4MiB` or `1MB` (a million).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Largest first; display picks the first that divides.
const BINARY_UNITS: [(&str, u64); 5] =
    [("PiB", 1 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
const OTHER_UNITS: [(&str, u64); 6] = [
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl ByteSize {
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let divides = |(_, factor): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*factor);
        let mut units = BINARY_UNITS.iter().chain(&OTHER_UNITS);
        let (unit, factor) = units.find(divides).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl FromStr for ByteSize {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ParseUnitError::Size { text: shorten(text) };
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        let unit = unit.trim_start();
        let (_, factor) = BINARY_UNITS
            .iter()
            .chain(&OTHER_UNITS)
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .ok_or_else(invalid)?;
        if number.is_empty() {
            return Err(invalid());
        }
        // TOML integers are signed, so that is the limit for all.
        let bytes = number.parse().ok().and_then(|number: u64| number.checked_mul(*factor));
        bytes
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .map(Self)
            .ok_or_else(|| ParseUnitError::TooLarge { text: shorten(text) })
    }
}

macro_rules! serde_as_text {
    ($name:ident, $form:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($form)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}

serde_as_text!(HumanDuration, DURATION_FORM);
serde_as_text!(ByteSize, SIZE_FORM);

fn shorten(text: &str) -> String {
    const LIMIT: usize = 40;
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let seconds = |text: &str| text.parse::<HumanDuration>().unwrap().get().as_secs_f64();
        for (text, expected) in
            [("30s", 30.0), ("5m", 300.0), ("500ms", 0.5), ("1h 30m", 5_400.0), (" 2d ", 172_800.0)]
        {
            assert!((seconds(text) - expected).abs() < f64::EPSILON, "{text}");
        }
    }

    #[test]
    fn a_bad_duration_is_told_the_accepted_form() {
        for text in ["", "30", "five minutes", "-1s", "1.5x"] {
            let error = text.parse::<HumanDuration>().unwrap_err().to_string();
            assert!(error.contains("\"30s\""), "{text}: {error}");
        }
        let error = "5000y".parse::<HumanDuration>().unwrap_err();
        assert!(error.to_string().contains("100 years"));
        let long = "x".repeat(10_000).parse::<HumanDuration>().unwrap_err();
        assert!(long.to_string().len() < 200);
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, expected) in [
            ("512B", 512),
            ("256KiB", 262_144),
            ("4 MiB", 4_194_304),
            ("1MB", 1_000_000),
            ("3gib", 3_221_225_472),
            ("0B", 0),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().bytes(), expected, "{text}");
        }
    }

    #[test]
    fn a_bad_size_is_told_the_accepted_form() {
        for text in ["", "12", "KiB", "1.5MiB", "-1B", "4 potatoes", "1MiBx"] {
            let error = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(error.contains("\"256KiB\""), "{text}: {error}");
        }
        for text in ["99999999999999999999B", "9000000PiB", "8192PiB"] {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert!(matches!(error, ParseUnitError::TooLarge { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_show_their_largest_whole_unit() {
        for (bytes, text) in [(0, "0B"), (1_000_000, "1MB"), (262_144, "256KiB"), (1_025, "1025B")]
        {
            assert_eq!(ByteSize::from_bytes(bytes).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn shown_quantities_read_back_equal(bytes in 0..=i64::MAX.cast_unsigned(), millis in 0..=1_u64 << 41) {
            let size = ByteSize::from_bytes(bytes);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
            let duration = HumanDuration::new(Duration::from_millis(millis));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
