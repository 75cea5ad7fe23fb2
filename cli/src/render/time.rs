//! Times and durations: short ones for people, exact ones for programs.

use std::time::{Duration, SystemTime};

use stoker_core::time::Timestamp;
use stoker_proto::well_known;

/// A duration at a glance: `0s`, `12ms`, `1.5s`, `12s`, `3m10s`, `2h05m`, `4d3h`.
pub(crate) fn span(duration: Duration) -> String {
    let millis = duration.as_millis();
    let seconds = duration.as_secs();
    match seconds {
        0 if millis == 0 => "0s".to_owned(),
        0 => format!("{millis}ms"),
        1..=9 if !millis.is_multiple_of(1000) => format!("{seconds}.{}s", millis % 1000 / 100),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// A point in time of the wire; `None` if it is unset or out of range.
pub(crate) fn from_wire(time: Option<&well_known::Timestamp>) -> Option<Timestamp> {
    let time = time?;
    let millis = time.seconds.checked_mul(1000)?.checked_add(i64::from(time.nanos) / 1_000_000)?;
    Some(Timestamp::from_unix_millis(millis))
}

/// A point in time for the wire.
pub(crate) fn to_wire(time: Timestamp) -> well_known::Timestamp {
    let millis = time.as_unix_millis();
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000)
        .expect("less than a second in nanoseconds fits");
    well_known::Timestamp { seconds: millis.div_euclid(1000), nanos }
}

/// A duration of the wire; `None` if it is unset or negative.
pub(crate) fn duration_from_wire(duration: Option<&well_known::Duration>) -> Option<Duration> {
    let duration = duration?;
    let nanos = u32::try_from(duration.nanos).ok()?;
    Some(Duration::new(u64::try_from(duration.seconds).ok()?, nanos))
}

/// A duration for the wire; a longer one than it can hold is cut.
pub(crate) fn duration_to_wire(duration: Duration) -> well_known::Duration {
    well_known::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).expect("less than a second fits"),
    }
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn rfc3339(time: Timestamp) -> Option<String> {
    let millis = u64::try_from(time.as_unix_millis()).ok()?;
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))?;
    // Beyond the year 9999 it has no such form.
    (millis < 253_402_300_800_000).then(|| humantime::format_rfc3339_millis(time).to_string())
}

/// A time of the wire for programs.
pub(crate) fn rfc3339_from_wire(time: Option<&well_known::Timestamp>) -> Option<String> {
    rfc3339(from_wire(time)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_two_places() {
        for (millis, text) in [
            (0, "0s"),
            (7, "7ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (9_990, "9.9s"),
            (12_700, "12s"),
            (190_000, "3m10s"),
            (7_500_000, "2h05m"),
            (356_400_000, "4d3h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn times_survive_the_wire() {
        for millis in [0, 1_700_000_000_123, -1] {
            let time = Timestamp::from_unix_millis(millis);
            assert_eq!(from_wire(Some(&to_wire(time))), Some(time));
        }
        assert_eq!(from_wire(None), None);
        let absurd = well_known::Timestamp { seconds: i64::MAX, nanos: 0 };
        assert_eq!(from_wire(Some(&absurd)), None);
    }

    #[test]
    fn programs_get_rfc_3339() {
        let time = Timestamp::from_unix_millis(1_700_000_000_123);
        assert_eq!(rfc3339(time).as_deref(), Some("2023-11-14T22:13:20.123Z"));
        assert_eq!(rfc3339(Timestamp::MAX), None);
        assert_eq!(rfc3339(Timestamp::from_unix_millis(-1)), None);
    }
}
