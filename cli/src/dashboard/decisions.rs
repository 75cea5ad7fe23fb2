//! What was decided lately about machines and why, from the ledger's entries.

use stoker_core::fleet::ledger::{Entry, State};
use stoker_core::time::Timestamp;

use crate::client::LedgerView;

/// A change of the ledger that somebody decided, or suffered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) at: Timestamp,
    pub(super) what: &'static str,
    pub(super) machine: String,
    pub(super) why: String,
}

/// The latest ones, the newest first. An entry tells when it was asked for, and how it left or leaves.
pub(super) fn latest(ledger: &LedgerView, most: usize) -> Vec<Decision> {
    let mut all: Vec<Decision> = ledger.entries.values().flat_map(of_entry).collect();
    all.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.machine.cmp(&b.machine)));
    all.truncate(most);
    all
}

fn of_entry(entry: &Entry) -> Vec<Decision> {
    let order = &entry.order;
    let place = format!("{} in {}", order.offering, order.pool);
    let machine = match entry.state.instance() {
        Some(instance) => format!("{instance}, {place}"),
        None => place,
    };
    let decision = |at: Timestamp, what: &'static str, why: String| Decision {
        at,
        what,
        machine: machine.clone(),
        why,
    };
    let times = &entry.times;
    let mut all = vec![decision(times.intended, "buy", order.reason.clone())];
    let left = match &entry.state {
        State::Draining { why, .. } => Some((times.draining, "drain", why.to_string())),
        State::Terminating { why, .. } => Some((times.terminating, "end", why.to_string())),
        State::Gone { why, .. } => Some((times.ended, "gone", why.to_string())),
        State::Failed { class, why } => {
            Some((times.ended, "refused", format!("{}: {why}", class.name())))
        }
        State::Intended
        | State::Requested { .. }
        | State::Launched { .. }
        | State::Ready { .. } => None,
    };
    all.extend(left.and_then(|(at, what, why)| Some(decision(at?, what, why))));
    all
}
