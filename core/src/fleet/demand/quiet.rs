//! Whether a pool that has nothing to do should keep its last worker: the break-even of what idling costs
//! against what a cold start is expected to cost.
//!
//! The next job is expected when it came on the days before at this time, and when it came after earlier
//! silences of this length. A late job is priced by the allowance that it uses up: with 1 % allowed, it
//! spends what a hundred jobs may, so it is worth a few times their service time.
//!
//! A pool that is too young to tell rents until it could have bought (the ski rental problem; Karlin et al., 1988): its
//! last worker stays for as long as a cold start would cost, which is at most twice what who knew the future would pay.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fleet::number::real;

use super::history::{DAY_MINUTES, History};

/// Price of a late job, in service times of the jobs whose allowance it uses up.
const PRICE: f64 = 4.0;
/// A silence is worth no more than this, as nobody knows that far ahead.
const LONGEST_MIN: i64 = 6 * 60;
/// Weight of an earlier silence against that of a day before.
const SILENCE_WEIGHT: f64 = 0.5;
/// Earlier silences that are looked at.
const SILENCES: usize = 12;
/// Nothing is concluded from less history than this.
const LEAST_HISTORY_MIN: i64 = 4 * 60;

/// The terms of the break-even.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trade {
    pub(crate) boot: Duration,
    pub(crate) max_wait: Duration,
    /// Mean service time in seconds.
    pub(crate) service: f64,
    /// Share of jobs that may be late.
    pub(crate) allowed: f64,
}

impl Trade {
    /// Seconds in which a job that comes to an empty pool is late.
    fn exposed(&self) -> f64 {
        self.boot.saturating_sub(self.max_wait).as_secs_f64()
    }

    /// What a boot and so many late jobs cost, in worker-seconds.
    fn cold_start(&self, late: f64) -> f64 {
        let price = PRICE * self.service / self.allowed.max(1e-6);
        self.boot.as_secs_f64() + late * price
    }
}

/// What idling and a cold start are expected to cost, in worker-seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BreakEven {
    /// Of keeping one idle worker until the next job.
    pub idle: f64,
    /// Of starting one when it comes: its boot, and the jobs that are late meanwhile.
    pub cold_start: f64,
}

impl BreakEven {
    pub fn favors_none(&self) -> bool {
        self.idle > self.cold_start
    }
}

/// The break-even now; `None` while the pool has work or too little is known of times like these.
pub(crate) fn break_even(history: &History, trade: &Trade) -> Option<BreakEven> {
    let now = history.minute();
    if history.age_minutes() < LEAST_HISTORY_MIN {
        // What has been paid for idling so far, against one job that finds nobody.
        let minutes = real(silence_before(history, now).unsigned_abs()) * 60.0;
        let idle = history.silence().as_secs_f64().max(minutes);
        let late = if trade.exposed() > 0.0 { 1.0 } else { 0.0 };
        return Some(BreakEven { idle, cold_start: trade.cold_start(late) });
    }
    let silent = silence_before(history, now);
    if real(silent.unsigned_abs()) * 60.0 < trade.boot.as_secs_f64() {
        return None;
    }
    let mut sum = BreakEven { idle: 0.0, cold_start: 0.0 };
    for day in 1..=7 {
        weigh(history, trade, &mut sum, (now - day * DAY_MINUTES, 1.0));
    }
    for moment in earlier(history, now, silent) {
        weigh(history, trade, &mut sum, (moment, SILENCE_WEIGHT));
    }
    (sum.idle > 0.0).then_some(sum)
}

/// Adds what would have followed had the pool been without workers at `moment`.
fn weigh(history: &History, trade: &Trade, sum: &mut BreakEven, (moment, weight): (i64, f64)) {
    if history.at(moment).is_none() {
        return;
    }
    let now = history.minute();
    let next = (moment..now).find(|minute| history.at(*minute).is_some_and(|load| load > 0.0));
    let gap = next.unwrap_or(now) - moment;
    if next.is_none() && gap < LONGEST_MIN {
        return; // Not over yet, so it says nothing.
    }
    sum.idle += weight * real(gap.min(LONGEST_MIN).unsigned_abs()) * 60.0;
    if let Some(next) = next {
        let minutes = whole_minutes(trade.exposed());
        let load = history.mean(next, next + minutes).unwrap_or(0.0);
        let late = load * real(minutes.unsigned_abs()) * 60.0 / trade.service;
        sum.cold_start += weight * trade.cold_start(late);
    }
}

fn whole_minutes(seconds: f64) -> i64 {
    i64::from(crate::fleet::number::ceil(seconds / 60.0).min(60)).max(1)
}

/// Minutes without work before `now`.
fn silence_before(history: &History, now: i64) -> i64 {
    let from = now - history.age_minutes();
    let last = (from..now).rev().find(|minute| history.at(*minute).is_some_and(|load| load > 0.0));
    now - 1 - last.unwrap_or(from)
}

/// Moments of the past at which the pool had been silent for `silent` minutes.
fn earlier(history: &History, now: i64, silent: i64) -> Vec<i64> {
    let mut moments = Vec::new();
    let mut run = 0;
    let from = now - history.age_minutes();
    for minute in from..now - silent {
        match history.at(minute) {
            Some(load) if load <= 0.0 => run += 1,
            Some(_) | None => run = 0,
        }
        if run == silent {
            moments.push(minute + 1);
        }
    }
    moments.split_off(moments.len().saturating_sub(SILENCES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    const TRADE: Trade = Trade {
        boot: Duration::from_mins(3),
        max_wait: Duration::from_mins(1),
        service: 30.0,
        allowed: 0.01,
    };

    /// Work from 8 to 20 o'clock, once every `every` minutes, for four days, then until `hour`.
    fn until(hour: i64, every: i64) -> History {
        let mut history = History::default();
        for minute in 0..=(4 * DAY_MINUTES + hour * 60) {
            let of_day = minute % DAY_MINUTES;
            let works = (8 * 60..20 * 60).contains(&of_day) && of_day % every == 0;
            history.advance(
                Timestamp::from_unix_millis(minute * 60_000),
                f64::from(u8::from(works)),
                30.0,
            );
        }
        history
    }

    #[test]
    fn nobody_waits_through_the_night() {
        let night = break_even(&until(23, 10), &TRADE).unwrap();
        assert!(night.favors_none(), "{night:?}");
    }

    #[test]
    fn a_worker_is_kept_through_a_lull_of_the_day() {
        let mut history = until(12, 20);
        for minute in 1..10 {
            let at = (4 * DAY_MINUTES + 12 * 60 + minute) * 60_000;
            history.advance(Timestamp::from_unix_millis(at), 0.0, 30.0);
        }
        let lull = break_even(&history, &TRADE).unwrap();
        assert!(!lull.favors_none(), "{lull:?}");
    }

    /// A job within half a minute, then silence for so many seconds.
    fn young(silence: i64) -> History {
        let mut history = History::default();
        for second in (0..=30 + silence).step_by(15) {
            let arrived = f64::from(u8::from(second == 30));
            history.advance(Timestamp::from_unix_millis(second * 1000), arrived, 30.0);
        }
        history
    }

    #[test]
    fn a_young_pool_idles_for_as_long_as_a_cold_start_costs() {
        // 3 min of boot, and a job of 30 s that is late: 4 * 30 s / 1 %.
        let cold_start = 180.0 + 12_000.0;
        let favors_none = |silence, trade: &Trade| {
            let balance = break_even(&young(silence), trade).unwrap();
            assert!((balance.idle - real(silence.unsigned_abs())).abs() <= 60.0, "{balance:?}");
            balance.favors_none()
        };
        assert!(!favors_none(12_000, &TRADE));
        assert!(favors_none(12_300, &TRADE));
        let cost = break_even(&young(600), &TRADE).unwrap().cold_start;
        assert!((cost - cold_start).abs() < 1e-6, "{cost}");
        // Nobody is late where a boot is shorter than the wait that is allowed.
        let quick = Trade { boot: Duration::from_secs(45), ..TRADE };
        assert!(!favors_none(45, &quick));
        assert!(favors_none(75, &quick));
    }

    #[test]
    fn a_pool_that_works_is_not_silent() {
        assert!(!break_even(&History::default(), &TRADE).unwrap().favors_none());
        assert!(!break_even(&young(0), &TRADE).unwrap().favors_none());
    }
}
