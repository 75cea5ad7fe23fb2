//! Launches that failed for a reason that is not the machine's own: what they have in common is left alone for a
//! while, for longer each time, and tried with one launch then.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cloud::{Avoid, reaction};
use crate::fleet::ledger::{Failure, Order, Pause};
use crate::ids::{OfferingName, PoolName};
use crate::time::Timestamp;

/// What lies so far back is forgotten: the first launch after that is one like any other.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(30);

/// What a pause says to launches of what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Held {
    /// One is tried at a time.
    OneAtATime,
    Until(Timestamp),
}

/// What pauses of a launch go by, the widest first.
pub(super) fn scopes(region: &str, pool: &PoolName, offering: &OfferingName) -> [String; 2] {
    // A region's name has no slash.
    [region.to_owned(), format!("{pool}/{offering}")]
}

/// The strictest of the pauses that a launch is held by, and what it is about.
pub(super) fn held(
    pauses: &BTreeMap<String, Pause>,
    scopes: &[String],
    now: Timestamp,
) -> Option<(Held, String)> {
    let of = |scope: &String| {
        let pause = pauses.get(scope)?;
        let held = if now < pause.until {
            Held::Until(pause.until)
        } else if now.since(pause.until) < FORGOTTEN_AFTER {
            Held::OneAtATime
        } else {
            return None;
        };
        Some((held, scope.clone()))
    };
    // Of two alike the first, which is the region and holds more.
    scopes.iter().filter_map(of).rev().max_by_key(|(held, _)| *held)
}

/// A launch failed. What fails while a pause lasts was asked for before it, and says nothing new.
pub(super) fn failed(
    pauses: &mut BTreeMap<String, Pause>,
    class: Failure,
    order: &Order,
    now: Timestamp,
) {
    pauses.retain(|_, pause| now.since(pause.until) < FORGOTTEN_AFTER);
    let [region, offering] = scopes(&order.region, &order.pool, &order.offering);
    let (scope, first, longest) = match class.class().map(|class| reaction(class).avoid) {
        Some(Avoid::Region { first, longest }) => (region, first, longest),
        Some(Avoid::Offering { first, longest }) => (offering, first, longest),
        // Whether to go without it is the planner's to judge.
        Some(Avoid::Market) | None => return,
    };
    let pause = pauses.entry(scope).or_default();
    if now < pause.until {
        return;
    }
    let length = first.saturating_mul(1 << pause.failures.min(16)).min(longest);
    pause.until = now.after(length);
    pause.failures = pause.failures.saturating_add(1);
}

/// A launch went well: there is nothing in its way any more.
pub(super) fn over(pauses: &mut BTreeMap<String, Pause>, order: &Order) {
    for scope in scopes(&order.region, &order.pool, &order.offering) {
        pauses.remove(&scope);
    }
}
