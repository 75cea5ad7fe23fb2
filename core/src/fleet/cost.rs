//! Where the money went: each dollar of the ledger has a day, a pool, an offering and a use, and what ran has a
//! model and a tenant.
//!
//! All that is here follows from the ledger's entries and from what attempts took of workers' time. The parts of
//! a machine's bill add up to [`ledger::cost`] of it, to the millionth of a dollar.
//!
//! [`ledger::cost`]: crate::fleet::ledger::cost

mod forecast;
mod phases;
mod share;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fleet::ledger::Entry;
use crate::fleet::spec::CapacityType;
use crate::ids::{ModelName, OfferingName, PoolName, TenantName};
use crate::money::Money;
use crate::time::Timestamp;

pub use forecast::forecast;
pub(super) use forecast::month_begin;

/// What a machine was paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// A worker was there, and ran attempts.
    Run,
    /// A worker was there, and ran nothing.
    Idle,
    /// From the request until the worker registered; all of a machine whose worker never did.
    Boot,
    /// From when the provider announced that it takes the machine back until it was gone; all of one that was
    /// taken back before its worker registered.
    Lost,
}

/// A part of the bill that is of one kind in every respect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Number of the day (UTC) since 1970.
    pub day: i64,
    pub pool: PoolName,
    pub offering: OfferingName,
    pub capacity: CapacityType,
    pub usage: Use,
    /// What ran, for whom; only of [`Use::Run`].
    pub ran: Option<(ModelName, TenantName)>,
    pub money: Money,
}

/// What attempts took on a day of a pool's workers, for one model and tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    pub day: i64,
    pub pool: PoolName,
    pub model: ModelName,
    pub tenant: TenantName,
    /// The attempts' times, added up: several run on a worker at once. Money is shared by this.
    pub taken: Duration,
    /// Time of workers that ran at least one attempt, each moment counted once.
    pub busy: Duration,
}

/// A span of time; what is outside is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Use {
    pub const ALL: [Self; 4] = [Self::Run, Self::Idle, Self::Boot, Self::Lost];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Idle => "idle",
            Self::Boot => "boot",
            Self::Lost => "lost",
        }
    }
}

/// The number of the day (UTC) since 1970 that a time is in.
pub fn day_of(at: Timestamp) -> i64 {
    super::caps::calendar(at).0
}

/// The bill of a period, up to `now`.
///
/// `usage` is of the same period; a worker that no entry is about counts in it, too, so that a pool of which only
/// some machines are in the ledger is at most all busy.
#[must_use]
pub fn bill<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    usage: &[Usage],
    period: Period,
    now: Timestamp,
) -> Vec<Item> {
    let mut parts: BTreeMap<phases::Key, phases::Part> = BTreeMap::new();
    for entry in entries {
        phases::add(entry, period, now, &mut parts);
    }
    share::share(&parts, usage)
}
