//! The ledger as a coordinator keeps it: one leader at a time, versions, and an operator's switch.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::fleet::execute::Writes;
use stoker_core::fleet::ledger::{Ledger, Mode, Switch};
use stoker_core::ids::Epoch;
use stoker_core::time::Timestamp;

use super::sabotage::Sabotage;

/// How long a lead lasts without another call.
const TERM: Duration = Duration::from_secs(15);
/// Entries that ended longer ago are not read any more.
const READ: Duration = Duration::from_mins(75);

#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) ledger: Ledger,
    pub(super) switch: Switch,
    leader: Option<usize>,
    epoch: u64,
    until: Timestamp,
    /// The epoch of the last write that was taken.
    pub(super) last_epoch: u64,
    /// A write of an older epoch was taken after one of a newer.
    pub(super) went_back: bool,
}

impl Store {
    pub(super) fn lead(&mut self, who: usize, now: Timestamp) -> Option<Epoch> {
        if self.leader != Some(who) {
            if now < self.until {
                return None;
            }
            self.leader = Some(who);
            self.epoch += 1;
        }
        self.until = now.after(TERM);
        Some(Epoch::new(self.epoch))
    }

    pub(super) fn reigns(&self) -> u64 {
        self.epoch
    }

    pub(super) fn read(&self) -> (Ledger, Switch) {
        (self.ledger.clone(), self.switch.clone())
    }

    pub(super) fn set(&mut self, mode: Mode, now: Timestamp) {
        let version = self.switch.version + 1;
        let (by, why) = ("operator".to_owned(), "drill".to_owned());
        self.switch = Switch { mode, version, by, why, set_at: now };
    }

    /// Whether the write was taken.
    pub(super) fn write(
        &mut self,
        (who, epoch): (usize, Epoch),
        switch_version: u64,
        writes: &Writes,
        bug: Option<Sabotage>,
    ) -> bool {
        let leads = self.leader == Some(who) && self.epoch == epoch.number();
        let checked = bug != Some(Sabotage::NoEpochCheck);
        if checked && (!leads || self.switch.version != switch_version) {
            return false;
        }
        let fits = writes.entries.iter().all(|entry| {
            let stored = self.ledger.entries.get(&entry.id).map_or(0, |stored| stored.version);
            entry.version == stored + 1
        });
        let account = writes.account.as_ref();
        let account = account.is_none_or(|a| a.version == self.ledger.account.version + 1);
        if checked && !(fits && account) {
            return false;
        }
        if !writes.is_empty() {
            self.went_back |= epoch.number() < self.last_epoch;
            self.last_epoch = self.last_epoch.max(epoch.number());
        }
        writes.apply_to(&mut self.ledger);
        true
    }

    /// Forgets what nobody asks for any more.
    pub(super) fn forget(&mut self, now: Timestamp) {
        let kept: &mut BTreeMap<_, _> = &mut self.ledger.entries;
        kept.retain(|_, entry| entry.times.ended.is_none_or(|at| now.since(at) < READ));
    }
}
