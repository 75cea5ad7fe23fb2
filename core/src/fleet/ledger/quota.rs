//! Bounds that the provider puts on the account: how much of a kind of machine it may have at a time.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use crate::fleet::spec::CapacityType;
use crate::ids::MachineId;

/// A bound on machines of one region and capacity type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// What the provider calls it, by which a person can ask for more.
    pub name: String,
    pub region: String,
    pub capacity: CapacityType,
    /// Units that the account may have at a time; of EC2 they are vCPUs.
    pub most: u32,
    /// Units that a machine of each type takes; other types do not count towards this quota.
    pub units: BTreeMap<String, u32>,
}

impl Quota {
    /// Units that a machine takes, if it counts towards this.
    pub fn units_of(
        &self,
        region: &str,
        capacity: CapacityType,
        instance_type: &str,
    ) -> Option<u32> {
        let is_of = self.region == region && self.capacity == capacity;
        self.units.get(instance_type).copied().filter(|units| is_of && *units > 0)
    }

    /// Machines of a type that the account may have at a time, if it had nothing else.
    pub fn machines_of(&self, instance_type: &str) -> Option<u32> {
        let units = self.units.get(instance_type).copied().filter(|units| *units > 0)?;
        Some(self.most / units)
    }

    /// Units that machines take until they are known to be gone.
    pub fn taken(&self, entries: &BTreeMap<MachineId, Entry>) -> u32 {
        let units = |entry: &Entry| {
            let order = &entry.order;
            self.units_of(&order.region, order.capacity, &order.instance_type).unwrap_or(0)
        };
        let open = entries.values().filter(|entry| entry.state.counts());
        open.map(units).fold(0, u32::saturating_add)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}: {}", self.name, self.region, self.most)
    }
}
