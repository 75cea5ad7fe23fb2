//! The fleet's ledger in a store: who may write, what fits, and what a write becomes. The rules that both stores
//! share; neither reads what an entry means.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stoker_core::fleet::ledger::{Account, EndOrder, Entry, Illegal, State, StateKind, Switch};
use stoker_core::ids::{Epoch, InstanceName, MachineId};
use stoker_core::time::Timestamp;
use uuid::Uuid;

use super::StoreError;

/// The role of whoever carries plans out, in the table of leaders.
pub(super) const FLEET_ROLE: &str = "fleet";

/// Entries that count at a time. Beyond this something is wrong that more entries do not mend.
pub(super) const MOST_OPEN: u64 = 20_000;

/// Who leads the fleet, or led it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reign {
    pub holder: Uuid,
    /// 0 if nobody ever led.
    pub epoch: Epoch,
    /// Of the term; zero when it is over.
    pub remaining: Duration,
}

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerQuery {
    /// Besides the open entries, those that ended since then.
    pub ended_since: Option<Timestamp>,
    /// Entries behind this one.
    pub after: Option<MachineId>,
    /// 0: no entries.
    pub limit: u32,
    pub with_memory: bool,
}

/// A part of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerPage {
    /// In the order of their ids.
    pub entries: Vec<Entry>,
    /// Where the next page starts; `None` on the last.
    pub next: Option<MachineId>,
    pub account: Account,
    pub switch: Switch,
    pub memory: Option<Bytes>,
    /// How many entries count, by state.
    pub open: BTreeMap<StateKind, u64>,
    pub read_at: Timestamp,
}

/// What a leader writes, all or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerWrite {
    pub holder: Uuid,
    pub epoch: Epoch,
    /// Of the switch that the decision was made under.
    pub switch_version: u64,
    pub entries: Vec<Entry>,
    pub account: Option<Account>,
    pub memory: Option<Bytes>,
}

/// What became of a write. Only [`LedgerWritten::Written`] changed anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerWritten {
    /// Now, or by the same call before.
    Written,
    /// Another has led since.
    NotLeading,
    /// The switch was set since.
    SwitchChanged,
    /// An entry, or the account, is of another version than the write expects.
    Conflict { what: String },
    /// Too many entries count.
    Full,
}

/// What became of an operator's order to end a machine.
#[derive(Debug, Clone, PartialEq)]
pub enum MachineEnded {
    /// The machine with the order, now or by the same call before.
    Written(Box<Entry>),
    /// The ledger has no such machine.
    Unknown,
    /// There is nothing to end, or nothing yet.
    Refused(Illegal),
}

/// What is stored of what a write is about.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) leader: Option<(Uuid, Epoch)>,
    pub(super) switch_version: u64,
    pub(super) account: (u64, String),
    pub(super) machines: BTreeMap<MachineId, (u64, String)>,
    pub(super) open: u64,
}

/// A row to be put in place of what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MachineRow {
    pub(super) id: MachineId,
    pub(super) version: i64,
    pub(super) state: &'static str,
    pub(super) ended_at: Option<i64>,
    pub(super) body: String,
}

/// What a write changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct LedgerChange {
    pub(super) machines: Vec<MachineRow>,
    pub(super) account: Option<(i64, String)>,
}

/// Judges a write. A repetition of one that was committed is written, whoever leads by now, and changes nothing.
pub(super) fn judge(
    write: &LedgerWrite,
    stored: &Stored,
) -> Result<Result<LedgerChange, LedgerWritten>, StoreError> {
    let mut change = LedgerChange::default();
    let mut conflict = None;
    let mut opened = 0;
    for entry in &write.entries {
        let row = row(entry)?;
        match stored.machines.get(&entry.id) {
            Some((version, body)) if *version == entry.version && *body == row.body => continue,
            Some((version, _)) if version.checked_add(1) == Some(entry.version) => {}
            None if entry.version == 1 => opened += u64::from(entry.state.counts()),
            Some((version, _)) => {
                conflict = Some(format!("machine {} is at version {version}", entry.id));
            }
            None => conflict = Some(format!("machine {} is not there", entry.id)),
        }
        change.machines.push(row);
    }
    if let Some(account) = &write.account {
        let text = to_json(account)?;
        let (version, body) = &stored.account;
        if *version != account.version || *body != text {
            if version.checked_add(1) != Some(account.version) {
                conflict = Some(format!("the account is at version {version}"));
            }
            change.account = Some((number(account.version), text));
        }
    }
    if change.machines.is_empty() && change.account.is_none() && write.memory.is_none() {
        return Ok(Err(LedgerWritten::Written));
    }
    Ok(if stored.leader != Some((write.holder, write.epoch)) {
        Err(LedgerWritten::NotLeading)
    } else if stored.switch_version != write.switch_version {
        Err(LedgerWritten::SwitchChanged)
    } else if let Some(what) = conflict {
        Err(LedgerWritten::Conflict { what })
    } else if opened > 0 && stored.open.saturating_add(opened) > MOST_OPEN {
        Err(LedgerWritten::Full)
    } else {
        Ok(change)
    })
}

/// What an operator's order makes of what is stored of a machine; `None`: nothing new is to be written.
pub(super) fn end(
    stored: Option<&str>,
    order: &EndOrder,
    now: Timestamp,
) -> Result<(MachineEnded, Option<MachineRow>), StoreError> {
    let Some(stored) = stored else { return Ok((MachineEnded::Unknown, None)) };
    let before: Entry = of_json("an entry", stored)?;
    Ok(match order.carry_out(&before, now) {
        Err(illegal) => (MachineEnded::Refused(illegal), None),
        Ok(after) => {
            let row = (after != before).then(|| row(&after)).transpose()?;
            (MachineEnded::Written(Box::new(after)), row)
        }
    })
}

fn row(entry: &Entry) -> Result<MachineRow, StoreError> {
    Ok(MachineRow {
        id: entry.id,
        version: number(entry.version),
        state: entry.state.kind().name(),
        ended_at: entry.times.ended.map(Timestamp::as_unix_millis),
        body: to_json(entry)?,
    })
}

/// The machine that a worker on it has to leave: it is being ended, or is taken to be gone. The stores' column
/// `leaving` says the same.
pub(crate) const fn leaving(state: &State) -> Option<&InstanceName> {
    match state {
        State::Terminating { instance, .. } | State::Gone { instance, .. } => Some(instance),
        State::Intended
        | State::Requested { .. }
        | State::Launched { .. }
        | State::Ready { .. }
        | State::Draining { .. }
        | State::Failed { .. } => None,
    }
}

/// A number for a column; the versions of a ledger are counted, so they fit.
pub(super) fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

/// A count or version from a column.
pub(super) fn counted(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Corrupt(format!("a value of the ledger: {error}")))
}

/// A document that an earlier write stored.
pub(super) fn of_json<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Corrupt(format!("{what} of the ledger: {error}")))
}

/// Numbers of open entries by state, from the names of the states.
pub(super) fn by_state(rows: impl IntoIterator<Item = (String, u64)>) -> BTreeMap<StateKind, u64> {
    let kind = |name: &str| StateKind::ALL.into_iter().find(|kind| kind.name() == name);
    rows.into_iter().filter_map(|(name, count)| Some((kind(&name)?, count))).collect()
}

/// The entries of a page and where the next starts, of up to one more than its limit.
pub(super) fn page(
    bodies: &[String],
    limit: u32,
) -> Result<(Vec<Entry>, Option<MachineId>), StoreError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = bodies.len() > limit;
    let entries: Vec<Entry> = bodies
        .iter()
        .take(limit)
        .map(|body| of_json("an entry", body))
        .collect::<Result<_, _>>()?;
    let next = entries.last().filter(|_| more).map(|entry| entry.id);
    Ok((entries, next))
}
