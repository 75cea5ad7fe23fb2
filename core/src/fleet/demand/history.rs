//! The load of the past: slot by slot for the last hour, minute by minute for the last eight days.
//!
//! Arrivals are kept, and become loads with the service time that is known when they are asked for: the first
//! guesses of it would otherwise be remembered as loads that never were.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fleet::number::{real, size};
use crate::time::Timestamp;

/// Arrivals are counted in slots of this length.
pub(crate) const SLOT: Duration = Duration::from_secs(15);
const SLOT_MS: i64 = 15_000;
const SLOTS_PER_MINUTE: u8 = 4;

/// Slots that are kept.
const RECENT: u16 = 256;

/// Minutes that are kept: seven days back and a day for what followed.
const MINUTES: u16 = 8 * 24 * 60;
pub(crate) const DAY_MINUTES: i64 = 24 * 60;

/// A minute that nobody looked at.
const UNKNOWN: f32 = -1.0;

/// Loads by time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct History {
    /// Number of the first slot that is not over, since the epoch; `None` before the first look.
    next_slot: Option<i64>,
    /// Jobs per second, latest last.
    recent: VecDeque<f32>,
    /// Jobs per second by minute since the epoch, modulo the length.
    minutes: Vec<f32>,
    /// First minute that was looked at.
    first_minute: i64,
    /// Jobs that arrived in the slot that is not over.
    pending: f64,
    /// Mean service time in seconds.
    service: f64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            next_slot: None,
            recent: VecDeque::new(),
            minutes: vec![UNKNOWN; usize::from(MINUTES)],
            first_minute: 0,
            pending: 0.0,
            service: 1.0,
        }
    }
}

impl History {
    /// Books `arrived` jobs, which take `service` seconds each, evenly over the time since the last call, and returns how many
    /// slots ended. A clock that went back ends none.
    pub(crate) fn advance(&mut self, now: Timestamp, arrived: f64, service: f64) -> u64 {
        let slot = now.as_unix_millis().div_euclid(SLOT_MS);
        self.pending += arrived;
        self.service = service;
        let Some(next) = self.next_slot else {
            self.next_slot = Some(slot);
            self.first_minute = slot.div_euclid(i64::from(SLOTS_PER_MINUTE));
            self.pending = 0.0;
            return 0;
        };
        let ended = u64::try_from(slot - next).unwrap_or(0);
        if ended == 0 {
            return 0;
        }
        let rate = self.pending / (real(ended) * SLOT.as_secs_f64());
        self.pending = 0.0;
        // After a long silence the mean of it stands for its end only.
        let booked = i64::try_from(ended).unwrap_or(i64::MAX).min(i64::from(RECENT));
        for slot in slot - booked..slot {
            self.book(slot, rate);
        }
        self.next_slot = Some(slot);
        ended
    }

    #[expect(clippy::cast_possible_truncation, reason = "a rate needs no more digits")]
    fn book(&mut self, slot: i64, rate: f64) {
        if self.recent.len() == usize::from(RECENT) {
            self.recent.pop_front();
        }
        self.recent.push_back(rate as f32);
        let share = rate as f32 / f32::from(SLOTS_PER_MINUTE);
        let at = place(slot.div_euclid(i64::from(SLOTS_PER_MINUTE)));
        let minute = &mut self.minutes[at];
        if slot.rem_euclid(i64::from(SLOTS_PER_MINUTE)) == 0 || *minute < 0.0 {
            *minute = share;
        } else {
            *minute += share;
        }
        if slot.rem_euclid(i64::from(SLOTS_PER_MINUTE)) == i64::from(SLOTS_PER_MINUTE) - 1 {
            // What comes next is eight days old and no longer known.
            self.minutes[(at + 1) % usize::from(MINUTES)] = UNKNOWN;
        }
    }

    /// Mean load of the last `slots` slots; fewer if fewer are known.
    pub(crate) fn recent(&self, slots: usize) -> f64 {
        let n = slots.min(self.recent.len());
        let sum: f64 = self.recent.iter().rev().take(n).map(|rate| f64::from(*rate)).sum();
        if n == 0 { 0.0 } else { self.service * sum / size(n) }
    }

    /// How long no job has come, as far as the last slots tell.
    pub(crate) fn silence(&self) -> Duration {
        if self.pending > 0.0 {
            return Duration::ZERO;
        }
        let slots = self.recent.iter().rev().take_while(|rate| **rate <= 0.0).count();
        SLOT.saturating_mul(u32::try_from(slots).unwrap_or(u32::MAX))
    }

    /// Whether no work was ever seen.
    pub(crate) fn is_untouched(&self) -> bool {
        self.pending <= 0.0 && self.minutes.iter().all(|rate| *rate <= 0.0)
    }

    /// The minute that is not over.
    pub(crate) fn minute(&self) -> i64 {
        self.next_slot.unwrap_or(0).div_euclid(i64::from(SLOTS_PER_MINUTE))
    }

    /// How many minutes have been looked at.
    pub(crate) fn age_minutes(&self) -> i64 {
        self.minute() - self.first_minute
    }

    /// Load of a minute; `None` if it is not over, too old or was not looked at.
    pub(crate) fn at(&self, minute: i64) -> Option<f64> {
        let known = minute < self.minute()
            && minute >= self.first_minute
            && minute > self.minute() - i64::from(MINUTES);
        let rate = self.minutes[place(minute)];
        (known && rate >= 0.0).then(|| self.service * f64::from(rate))
    }

    /// Mean load of the minutes in `[from, to)`; `None` if none is known.
    pub(crate) fn mean(&self, from: i64, to: i64) -> Option<f64> {
        let (mut sum, mut n) = (0.0, 0_u32);
        for load in (from..to).filter_map(|minute| self.at(minute)) {
            sum += load;
            n += 1;
        }
        (n > 0).then(|| sum / f64::from(n))
    }
}

fn place(minute: i64) -> usize {
    usize::try_from(minute.rem_euclid(i64::from(MINUTES))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_begins_with_the_slot_after_the_last_job() {
        let mut history = History::default();
        assert_eq!(history.silence(), Duration::ZERO);
        history.advance(at(0), 0.0, 1.0);
        history.advance(at(10), 3.0, 1.0);
        assert_eq!(history.silence(), Duration::ZERO);
        history.advance(at(15), 0.0, 1.0);
        assert_eq!(history.silence(), Duration::ZERO, "the slot of the jobs");
        history.advance(at(60), 0.0, 1.0);
        assert_eq!(history.silence(), Duration::from_secs(45));
        history.advance(at(61), 1.0, 1.0);
        assert_eq!(history.silence(), Duration::ZERO);
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_millis(seconds * 1000)
    }

    #[test]
    fn work_is_booked_over_the_time_in_which_it_arrived() {
        let mut history = History::default();
        assert_eq!(history.advance(at(0), 100.0, 1.0), 0, "before the first look nothing is known");
        assert_eq!(history.advance(at(60), 30.0, 2.0), 4);
        assert!((history.recent(4) - 1.0).abs() < 1e-6);
        assert_eq!(history.at(0).map(f64::round), Some(1.0));
        assert_eq!(history.at(1), None, "the minute is not over");
    }

    #[test]
    fn a_clock_that_goes_back_or_far_ahead_does_no_harm() {
        let mut history = History::default();
        history.advance(at(1_000_000), 0.0, 1.0);
        assert_eq!(history.advance(at(0), 5.0, 1.0), 0);
        assert!(history.advance(Timestamp::MAX, 5.0, 1.0) > 0);
        assert!(history.recent(256) >= 0.0);
    }

    #[test]
    fn minutes_of_eight_days_ago_are_forgotten() {
        let mut history = History::default();
        history.advance(at(0), 0.0, 1.0);
        for minute in 1..=9 * DAY_MINUTES {
            history.advance(at(minute * 60), 60.0, 1.0);
        }
        assert_eq!(history.at(0), None);
        let week = history.minute() - 7 * DAY_MINUTES;
        assert_eq!(history.at(week).map(f64::round), Some(1.0));
    }
}
