//! How many more machines the account's quotas allow.
//!
//! What others of the account have counts towards them as well, and is not known here. So a launch within a quota may still
//! be refused; one beyond it would be, and is not tried.

use std::collections::BTreeMap;

use crate::fleet::ledger::{Entry, Quota};
use crate::fleet::spec::CapacityType;
use crate::ids::MachineId;

/// How many machines fit, and under what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Room<'a> {
    pub(super) quota: &'a Quota,
    pub(super) machines: u32,
}

/// The least room that a quota leaves for a type beside what is there; `None` where no quota is known of it.
pub(super) fn room<'a>(
    quotas: &'a [Quota],
    (region, capacity, instance_type): (&str, CapacityType, &str),
    entries: &BTreeMap<MachineId, Entry>,
) -> Option<Room<'a>> {
    let rooms = quotas.iter().filter_map(|quota| {
        let units = quota.units_of(region, capacity, instance_type)?;
        let left = quota.most.saturating_sub(quota.taken(entries));
        Some(Room { quota, machines: left / units })
    });
    rooms.min_by_key(|room| room.machines)
}
