//! What buying an offering risks: launches refused, and instances taken back. Learned and forgotten.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

use super::number::real;
use super::snapshot::Market;

/// How long an observation counts.
const MEMORY: Duration = Duration::from_hours(24);
/// An offering is taken to lose one instance in twenty hours until more is known, as if seen for an hour.
const PRIOR_LOSSES: f64 = 0.05;
const PRIOR_HOURS: f64 = 1.0;
/// How long a refusal counts: capacity that is short stays so for hours rather than days.
const REFUSAL_MEMORY: Duration = Duration::from_hours(1);
/// An offering is taken to refuse one launch in twenty until more is known, as if so many had been asked for.
const PRIOR_REFUSED: f64 = 0.05;
const PRIOR_ASKED: f64 = 4.0;
/// More launches than this between two looks are a broken counter.
const MOST_ASKED: u64 = 10_000;
/// A refused launch is not repeated for this long, doubled by each further refusal, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// After an interruption more of the same kind are likely.
const PAUSE_AFTER_LOSS: Duration = Duration::from_mins(3);

/// What is known of one offering.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Risk {
    launched: u64,
    refused: u64,
    #[serde(default)]
    held_back: u64,
    interrupted: u64,
    /// Decayed.
    losses: f64,
    hours: f64,
    /// Launches that were asked for, and of these the refused ones. Decayed.
    #[serde(default)]
    asked: f64,
    #[serde(default)]
    refusals: f64,
    refusals_in_a_row: u32,
    paused_until: Option<Timestamp>,
    refused_at: Option<Timestamp>,
}

impl Risk {
    /// Takes in an offering's totals, when `live` instances of it ran for `elapsed`. The first look and one
    /// after a reset only set the base. Answers whether the market lost or refused some; what the executor held
    /// back says nothing of it.
    pub(crate) fn observe(
        &mut self,
        market: Market,
        live: u64,
        elapsed: Duration,
        now: Timestamp,
    ) -> bool {
        let first = *self == Self::default();
        let refused = market.refused.saturating_sub(self.refused);
        let launched = market.launched.saturating_sub(self.launched);
        let interrupted = market.interrupted.saturating_sub(self.interrupted);
        self.launched = market.launched;
        let held_back = market.held_back.saturating_sub(self.held_back);
        self.refused = market.refused;
        self.held_back = market.held_back;
        self.interrupted = market.interrupted;
        let fade = (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.losses *= fade;
        self.hours = self.hours * fade + real(live) * elapsed.as_secs_f64() / 3600.0;
        if first && market != Market::default() && elapsed.is_zero() {
            return false;
        }
        self.losses += real(interrupted);
        let fade = (-elapsed.as_secs_f64() / REFUSAL_MEMORY.as_secs_f64()).exp();
        self.asked = self.asked * fade + real(launched.saturating_add(refused).min(MOST_ASKED));
        self.refusals = self.refusals * fade + real(refused.min(MOST_ASKED));
        if launched > 0 {
            self.refusals_in_a_row = 0;
        }
        if refused > 0 || held_back > 0 {
            let pause = FIRST_PAUSE.saturating_mul(1 << self.refusals_in_a_row.min(8));
            self.refusals_in_a_row = self.refusals_in_a_row.saturating_add(1);
            self.pause(now.after(pause.min(LONGEST_PAUSE)));
        }
        if refused > 0 {
            self.refused_at = Some(now);
        }
        if interrupted > 0 {
            self.pause(now.after(PAUSE_AFTER_LOSS));
        }
        refused > 0 || interrupted > 0
    }

    fn pause(&mut self, until: Timestamp) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// Until when it is not tried; `None` if it may be.
    pub(crate) fn paused(&self, now: Timestamp) -> Option<Timestamp> {
        self.paused_until.filter(|until| *until > now)
    }

    /// Whether a launch was refused within `span`.
    pub(crate) fn refused_within(&self, now: Timestamp, span: Duration) -> bool {
        self.refused_at.is_some_and(|at| now.since(at) <= span)
    }

    /// Probability that the next launch is refused, above 0 and below 1.
    pub(crate) fn refusal(&self) -> f64 {
        (self.refusals + PRIOR_REFUSED * PRIOR_ASKED) / (self.asked + PRIOR_ASKED)
    }

    /// Expected losses per instance and hour.
    pub(crate) fn losses_per_hour(&self) -> f64 {
        (self.losses + PRIOR_LOSSES) / (self.hours + PRIOR_HOURS)
    }
}

/// Spare instances against losses: the fewest that cover all of a number of losses but one time in ten,
/// when `expected` of them come on average (Poisson) in the time that a replacement takes.
pub(crate) fn spares(expected: f64) -> u32 {
    const UNCOVERED: f64 = 0.1;
    let expected = if expected.is_finite() { expected.clamp(0.0, 50.0) } else { 0.0 };
    let mut term = (-expected).exp();
    let mut covered = term;
    let mut spares = 0;
    while 1.0 - covered > UNCOVERED && spares < 100 {
        spares += 1;
        term *= expected / f64::from(spares);
        covered += term;
    }
    spares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_millis(seconds * 1000)
    }

    fn market(launched: u64, refused: u64, interrupted: u64) -> Market {
        Market { launched, refused, interrupted, ..Market::default() }
    }

    const TICK: Duration = Duration::from_secs(15);

    #[test]
    fn refusals_pause_an_offering_for_longer_and_longer_until_one_succeeds() {
        let mut risk = Risk::default();
        risk.observe(market(0, 1, 0), 0, TICK, at(0));
        assert_eq!(risk.paused(at(0)), Some(at(60)));
        risk.observe(market(0, 2, 0), 0, TICK, at(60));
        assert_eq!(risk.paused(at(60)), Some(at(180)));
        risk.observe(market(1, 2, 0), 1, TICK, at(180));
        risk.observe(market(1, 3, 0), 1, TICK, at(200));
        assert_eq!(risk.paused(at(200)), Some(at(260)));
    }

    #[test]
    fn what_was_held_back_pauses_an_offering_and_says_nothing_of_the_market() {
        let mut risk = Risk::default();
        let held = Market { held_back: 1, ..market(0, 0, 0) };
        assert!(!risk.observe(held, 0, TICK, at(0)));
        assert_eq!(risk.paused(at(0)), Some(at(60)));
        assert!(!risk.refused_within(at(1), TICK));
        let refused = Market { held_back: 1, ..market(0, 1, 0) };
        assert!(risk.observe(refused, 0, TICK, at(1)));
        assert!(risk.refused_within(at(2), TICK));
    }

    #[test]
    fn refusals_are_learned_and_fade_within_hours() {
        let mut risk = Risk::default();
        let unknown = risk.refusal();
        assert!((unknown - PRIOR_REFUSED).abs() < 1e-12);
        risk.observe(market(0, 3, 0), 0, TICK, at(0));
        let refusing = risk.refusal();
        risk.observe(market(6, 3, 0), 6, TICK, at(15));
        let mixed = risk.refusal();
        assert!(unknown < mixed && mixed < refusing && refusing < 0.5, "{mixed} {refusing}");
        let held = Market { held_back: 9, ..market(6, 3, 0) };
        risk.observe(held, 6, TICK, at(30));
        assert!(risk.refusal() <= mixed, "what was not asked for says nothing");
        risk.observe(held, 6, Duration::from_hours(12), at(45));
        assert!((risk.refusal() - unknown).abs() < 1e-3, "{risk:?}");
        let absurd = market(u64::MAX, u64::MAX, 0);
        risk.observe(absurd, 6, TICK, at(60));
        assert!(risk.refusal() > 0.0 && risk.refusal() < 1.0, "{risk:?}");
    }

    #[test]
    fn losses_are_learned_and_fade() {
        let mut risk = Risk::default();
        let quiet = risk.losses_per_hour();
        risk.observe(market(5, 0, 3), 5, TICK, at(15));
        let stormy = risk.losses_per_hour();
        risk.observe(market(5, 0, 3), 5, Duration::from_hours(240), at(30));
        assert!(stormy > quiet && risk.losses_per_hour() < 0.01, "{quiet} {stormy} {risk:?}");
    }

    #[test]
    fn spares_follow_the_losses_that_are_expected() {
        assert_eq!([0.0, 0.05, 0.5, 2.0, f64::NAN].map(spares), [0, 0, 1, 4, 0]);
    }
}
