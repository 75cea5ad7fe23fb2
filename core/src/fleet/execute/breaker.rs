//! The boot-loop breaker: a template whose boots fail is not launched over and over.

use crate::fleet::ledger::Breaker;
use crate::time::Timestamp;

use super::rules::Rules;

/// What a breaker says to a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Closed,
    /// A trial, one at a time.
    HalfOpen,
    Open {
        until: Timestamp,
    },
}

pub(super) fn verdict(breaker: Option<&Breaker>, now: Timestamp) -> Verdict {
    match breaker {
        None | Some(Breaker { trips: 0, .. }) => Verdict::Closed,
        Some(Breaker { open_until: Some(until), .. }) if now < *until => {
            Verdict::Open { until: *until }
        }
        Some(_) => Verdict::HalfOpen,
    }
}

/// A boot failed.
pub(super) fn failed(breaker: &mut Breaker, rules: &Rules, now: Timestamp) {
    breaker.failures.push_back(now);
    while breaker.failures.front().is_some_and(|at| now.since(*at) > rules.breaker_window) {
        breaker.failures.pop_front();
    }
    let failures = u32::try_from(breaker.failures.len()).unwrap_or(u32::MAX);
    // The trial of a half-open breaker counts for itself.
    let on_trial = breaker.trips > 0 && breaker.open_until.is_some_and(|until| now >= until);
    if failures >= rules.breaker_boots || on_trial {
        trip(breaker, rules, now);
    }
}

/// Launches of the template cannot go well before somebody mends something. What was launched together fails together and is
/// one failure: a breaker that is open already stays as it is.
pub(super) fn trip(breaker: &mut Breaker, rules: &Rules, now: Timestamp) {
    if breaker.open_until.is_some_and(|until| now < until) {
        return;
    }
    let pause = rules.breaker_pause.saturating_mul(1 << breaker.trips.min(16));
    breaker.open_until = Some(now.after(pause.min(rules.breaker_longest)));
    breaker.trips = breaker.trips.saturating_add(1);
    breaker.failures.clear();
}
