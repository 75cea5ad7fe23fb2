//! Whether a clock is right, as far as another one tells.

use std::time::Duration;

use crate::time::Timestamp;

/// Clocks that are further apart are not those of machines that keep the time.
const MOST: Duration = Duration::from_mins(1);

/// How far a clock is off, if it is: it said `before` when another one was asked and `after` when that one's answer
/// `theirs` was there. What was on the way is held against nobody.
#[must_use]
pub fn clock_off(theirs: Timestamp, (before, after): (Timestamp, Timestamp)) -> Option<Duration> {
    let off = before.since(theirs).max(theirs.since(after));
    (off > MOST).then_some(off)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_a_minute_off_in_either_direction_is_found_out_and_a_slow_answer_is_not() {
        let at = |seconds: i64| Timestamp::from_unix_millis(seconds * 1000);
        let off = |theirs: i64, before: i64, after: i64| {
            clock_off(at(theirs), (at(before), at(after))).map(|off| off.as_secs())
        };
        assert_eq!(off(1_000, 1_000, 1_000), None);
        assert_eq!(off(1_000, 900, 1_200), None, "the answer took five minutes");
        assert_eq!(off(1_000, 1_060, 1_061), None);
        assert_eq!(off(1_000, 1_061, 1_062), Some(61), "ahead");
        assert_eq!(off(1_000, 900, 938), Some(62), "behind");
        assert_eq!(off(1_000, 2_593_000, 2_593_001), Some(2_592_000), "a month ahead");
    }
}
