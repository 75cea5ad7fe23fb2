//! What the entries add up to, and what is remembered beside them. One leader writes it, together with the entries.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fleet::snapshot::Market;
use crate::ids::{InstanceName, OfferingName, PoolName};
use crate::time::Timestamp;

use super::cost::Spend;
use super::quota::Quota;

/// Totals and memories of the one who executes plans.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// How often it was written. A write of any other version than the next is refused.
    pub version: u64,
    /// Machines that were ever intended. A plan that was made before the last of them does not know of it.
    pub intents: u64,
    pub spend: Spend,
    /// Totals that the planner learns an offering's risk from.
    pub markets: BTreeMap<PoolName, BTreeMap<OfferingName, Market>>,
    /// By template.
    pub breakers: BTreeMap<String, Breaker>,
    /// By region, and by `pool/offering`.
    pub pauses: BTreeMap<String, Pause>,
    /// What the provider allows the account, as it was read last. Empty where it tells nothing.
    pub quotas: Vec<Quota>,
    /// Machines with our tag in no entry, and since when listings show them.
    pub orphans: BTreeMap<InstanceName, Timestamp>,
}

/// Entries are looked at for so long after their end: windows and guards count them.
const LOOKED_BACK: Duration = Duration::from_hours(1);

impl Account {
    /// Besides the open entries, a step needs those that ended since then: they are still to be charged for, or
    /// count in a window.
    pub fn needed_since(&self, now: Timestamp) -> Timestamp {
        self.spend.charged_until.unwrap_or(now).min(now).before(LOOKED_BACK)
    }
}

/// How long launches are held back, since some failed for a reason that they have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pause {
    pub until: Timestamp,
    /// How often in a row, without a launch that went well.
    pub failures: u32,
}

/// Whether a template boots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Breaker {
    /// Boots that failed lately.
    pub failures: VecDeque<Timestamp>,
    /// Nothing is launched until then.
    pub open_until: Option<Timestamp>,
    /// How often in a row it opened without a boot that went well.
    pub trips: u32,
}
