//! Times and durations. Protobuf's are wider than ours, and both ways have values without a
//! counterpart: those are errors on the way in and clamped on the way out.

use std::time::Duration;

use stoker_core::time::Timestamp;

use crate::status::FieldViolation;
use crate::well_known;

const NANOS_PER_MILLI: i32 = 1_000_000;
const NANOS_PER_SECOND: i32 = 1_000_000_000;
/// Largest that `google.protobuf.Duration` allows: about 10,000 years.
const MAX_DURATION_SECONDS: i64 = 315_576_000_000;
/// 0001-01-01 and 9999-12-31, the range that `google.protobuf.Timestamp` allows.
const MIN_TIMESTAMP_SECONDS: i64 = -62_135_596_800;
const MAX_TIMESTAMP_SECONDS: i64 = 253_402_300_799;

/// A time from the wire, cut to milliseconds.
pub fn timestamp(value: &well_known::Timestamp, field: &str) -> Result<Timestamp, FieldViolation> {
    let in_range = (MIN_TIMESTAMP_SECONDS..=MAX_TIMESTAMP_SECONDS).contains(&value.seconds)
        && (0..NANOS_PER_SECOND).contains(&value.nanos);
    if !in_range {
        return Err(FieldViolation::new(
            field,
            "is not a time: seconds must lie in the years 1 to 9999 and nanos in 0 to 999999999",
        ));
    }
    let millis = value.seconds * 1000 + i64::from(value.nanos / NANOS_PER_MILLI);
    Ok(Timestamp::from_unix_millis(millis))
}

/// A time for the wire, clamped to the years 1 to 9999.
pub fn wire_timestamp(time: Timestamp) -> well_known::Timestamp {
    let millis = time
        .as_unix_millis()
        .clamp(MIN_TIMESTAMP_SECONDS * 1000, MAX_TIMESTAMP_SECONDS * 1000 + 999);
    let rest = i32::try_from(millis.rem_euclid(1000)).expect("a remainder of 1000 fits");
    well_known::Timestamp { seconds: millis.div_euclid(1000), nanos: rest * NANOS_PER_MILLI }
}

/// A duration from the wire, which must not be negative.
pub fn duration(value: &well_known::Duration, field: &str) -> Result<Duration, FieldViolation> {
    let seconds =
        u64::try_from(value.seconds).ok().filter(|_| value.seconds <= MAX_DURATION_SECONDS);
    let nanos = u32::try_from(value.nanos).ok().filter(|_| value.nanos < NANOS_PER_SECOND);
    match (seconds, nanos) {
        (Some(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(FieldViolation::new(
            field,
            "is not a duration: seconds must be 0 to 315576000000 and nanos 0 to 999999999",
        )),
    }
}

/// A duration that need not be told. What is none is as good as not told.
pub fn told_duration(value: Option<&well_known::Duration>) -> Option<Duration> {
    duration(value?, "").ok()
}

/// A duration for the wire, clamped to what protobuf allows.
pub fn wire_duration(value: Duration) -> well_known::Duration {
    match i64::try_from(value.as_secs()) {
        Ok(seconds) if seconds < MAX_DURATION_SECONDS => {
            let nanos = i32::try_from(value.subsec_nanos()).expect("below a second fits");
            well_known::Duration { seconds, nanos }
        }
        Ok(_) | Err(_) => well_known::Duration { seconds: MAX_DURATION_SECONDS, nanos: 0 },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_of_our_era_survive_the_wire(
            millis in MIN_TIMESTAMP_SECONDS * 1000..MAX_TIMESTAMP_SECONDS * 1000,
        ) {
            let time = Timestamp::from_unix_millis(millis);
            prop_assert_eq!(timestamp(&wire_timestamp(time), "f").unwrap(), time);
        }

        #[test]
        fn no_time_or_duration_is_out_of_range(millis: i64, seconds: u64, nanos in 0_u32..1_000_000_000) {
            let sent = wire_timestamp(Timestamp::from_unix_millis(millis));
            prop_assert!(timestamp(&sent, "f").is_ok());
            let sent = wire_duration(Duration::new(seconds, nanos));
            prop_assert!(duration(&sent, "f").is_ok());
        }

        #[test]
        fn any_wire_value_is_read_or_refused(seconds: i64, nanos: i32) {
            if let Ok(read) = duration(&well_known::Duration { seconds, nanos }, "f") {
                prop_assert_eq!(wire_duration(read), well_known::Duration { seconds, nanos });
            }
            let time = well_known::Timestamp { seconds, nanos };
            if let Ok(read) = timestamp(&time, "f") {
                prop_assert_eq!(wire_timestamp(read).seconds, seconds);
            }
        }
    }

    #[test]
    fn values_out_of_range_are_refused_with_the_field() {
        for (seconds, nanos) in
            [(-1, 0), (0, -1), (-1, -1), (0, NANOS_PER_SECOND), (i64::MAX, 0), (i64::MIN, i32::MIN)]
        {
            let violation =
                duration(&well_known::Duration { seconds, nanos }, "job.x").unwrap_err();
            assert_eq!(violation.field, "job.x");
        }
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, NANOS_PER_SECOND)] {
            assert!(timestamp(&well_known::Timestamp { seconds, nanos }, "t").is_err());
        }
    }

    #[test]
    fn a_time_before_the_epoch_keeps_its_order() {
        let sent = wire_timestamp(Timestamp::from_unix_millis(-1));
        assert_eq!((sent.seconds, sent.nanos), (-1, 999_000_000));
    }
}
