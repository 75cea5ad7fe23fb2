//! From a plan to what is written and what is asked of the provider: the rules that keep the bill and the work
//! safe, whoever crashes when.
//!
//! [`step`] is pure, level-triggered and repeatable. It looks at the ledger, at what the provider and the
//! coordinator list, at what came of earlier calls, and at a plan; and it says what to write and then what to
//! call. The caller writes first, under its epoch, and calls only if that was committed: so each call stands in
//! the ledger before it is made. A caller whose term has ended makes no more calls; one that stood still between
//! that look and the call does no harm, since its successor counts the machine and repeats the call with the same
//! token. Whatever is cut off, the next step goes on from what is written and listed.

mod breaker;
mod command;
mod commands;
mod deadlines;
mod finding;
mod guard;
mod launching;
mod leftovers;
mod listing;
mod observe;
mod outcomes;
mod pause;
mod quota;
mod reaper;
mod removal;
mod rules;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use command::{Command, Outcome, Proposal};
pub use finding::Finding;
pub use listing::{EndedBy, Listings, Machine, MachineState};
pub use rules::{Orphans, Rules};

use crate::ids::{Epoch, MachineId, OfferingName, PoolName};
use crate::time::Timestamp;

use super::ledger::{Account, Entry, Ledger, Mode, Quota, WorkerList};
use super::policy::Policy;
use super::snapshot::Reading;
use turn::Turn;

/// Where an offering of a pool is bought, and what boots on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    pub provider: String,
    pub region: String,
    /// Launch template and version.
    pub template: String,
}

/// The sites of every pool's offerings.
pub type Sites = BTreeMap<PoolName, BTreeMap<OfferingName, Site>>;

/// All that a step looks at besides the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    pub policy: &'a Policy,
    pub sites: &'a Sites,
    pub rules: &'a Rules,
    /// Under which the caller writes.
    pub epoch: Epoch,
    pub mode: Mode,
    /// When the ledger was read.
    pub read_at: Timestamp,
    pub listings: &'a Listings,
    pub workers: &'a Reading<WorkerList>,
    /// What came of the calls of earlier steps, as far as that has not been passed in before.
    pub outcomes: &'a [Outcome],
    pub proposal: Option<&'a Proposal>,
    /// As far as they are known.
    pub quotas: &'a [Quota],
    pub now: Timestamp,
}

/// What follows: first the writes, all or none, and if they are committed the commands, in any order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[must_use]
pub struct Executed {
    pub writes: Writes,
    pub commands: Vec<Command>,
    /// What was not done and why, and what an operator should know.
    pub findings: Vec<Finding>,
}

/// What is to be written, in one transaction.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Writes {
    /// Changed and new ones, each with the version that it will have.
    pub entries: Vec<Entry>,
    pub account: Option<Account>,
}

impl Writes {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.account.is_none()
    }

    /// The ledger after these were committed.
    pub fn apply_to(&self, ledger: &mut Ledger) {
        for entry in &self.entries {
            ledger.entries.insert(entry.id, entry.clone());
        }
        if let Some(account) = &self.account {
            ledger.account = account.clone();
        }
    }
}

/// One round. `ledger` has every open entry, and those that ended since [`Account::needed_since`]. `fresh` makes ids
/// of machines that were never used.
pub fn step(
    ledger: &Ledger,
    situation: &Situation<'_>,
    fresh: &mut dyn FnMut() -> MachineId,
) -> Executed {
    let mut turn = Turn::new(ledger, situation);
    let age = situation.now.since(situation.read_at);
    if age > situation.rules.stale_after {
        // What is not known to be so is not acted on.
        return Executed { findings: vec![Finding::LedgerStale { age }], ..Executed::default() };
    }
    outcomes::take(&mut turn);
    observe::machines(&mut turn);
    observe::workers(&mut turn);
    reaper::reap(&mut turn, fresh);
    turn.charge();
    removal::obey_switch(&mut turn);
    deadlines::pass(&mut turn);
    removal::keep_budget(&mut turn);
    leftovers::leave_lost_pools(&mut turn);
    removal::follow_plan(&mut turn);
    launching::follow_plan(&mut turn, fresh);
    commands::derive(&mut turn);
    turn.finish()
}
