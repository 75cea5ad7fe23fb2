//! The ledger: every machine that the fleet ever asked for, from before it exists until it is gone.
//!
//! An [`Entry`] is committed before the provider is asked, and counts as capacity from then on, so that no
//! crash, no lost answer and no second autoscaler can make a machine that nobody knows of. [`apply`] is the only
//! way from one state to the next. [`Account`] is what the entries add up to. Who decides is
//! `fleet::execute`; who stores it is the coordinator.

mod account;
mod cost;
mod entry;
mod order;
mod quota;
mod state;
mod switch;
#[cfg(test)]
mod tests;
mod transition;
mod view;

use std::collections::BTreeMap;

pub use account::{Account, Breaker, Pause};
pub use cost::{Spend, cost, span};
pub use entry::{Entry, Order, Times};
pub use order::EndOrder;
pub use quota::Quota;
pub use state::{Ending, Failure, Leave, State, StateKind};
pub use switch::{Mode, Switch};
pub use transition::{Event, Illegal, apply};
pub use view::{Presence, WorkerList, WorkerSeen, instances};

use crate::ids::MachineId;

/// Entries that are not forgotten, and what they add up to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ledger {
    pub entries: BTreeMap<MachineId, Entry>,
    pub account: Account,
}

impl Ledger {
    /// Entries that count as capacity.
    pub fn open(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.state.counts())
    }
}
