//! A machine as the ledger knows it.

use serde::{Deserialize, Serialize};

use crate::fleet::spec::CapacityType;
use crate::ids::{Epoch, InstanceName, MachineId, OfferingName, PoolName};
use crate::money::HourlyPrice;
use crate::time::Timestamp;

use super::state::State;

/// A machine that was asked for, or that was found and taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Also the client token of the call that asks for it, and a tag of the machine.
    pub id: MachineId,
    /// How often it was written, so 1 for a new one. A write of any other version than the next is refused.
    pub version: u64,
    /// The leader that wrote it first.
    pub epoch: Epoch,
    pub order: Order,
    pub state: State,
    pub times: Times,
}

/// What was asked for, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub pool: PoolName,
    pub offering: OfferingName,
    /// Such as `ec2` or `local`.
    pub provider: String,
    /// Where the provider is to be asked.
    pub region: String,
    pub zone: String,
    pub instance_type: String,
    pub capacity: CapacityType,
    pub price: HourlyPrice,
    /// What boots on it: launch template and version. Boots that fail are counted by this.
    pub template: String,
    /// Why the planner wanted it.
    pub reason: String,
}

/// When it came to what; `None` for what has not happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Times {
    pub intended: Timestamp,
    /// The first call that asked for it, and the last.
    pub requested: Option<Timestamp>,
    pub asked: Option<Timestamp>,
    /// By the provider's clock.
    pub launched: Option<Timestamp>,
    pub ready: Option<Timestamp>,
    pub draining: Option<Timestamp>,
    pub terminating: Option<Timestamp>,
    /// Gone or failed.
    pub ended: Option<Timestamp>,
    /// When the provider announced that it takes it back.
    pub noticed: Option<Timestamp>,
    /// Since when the provider's listings do not have it.
    pub missing: Option<Timestamp>,
}

impl Entry {
    /// A machine that is about to be asked for.
    pub fn intended(id: MachineId, epoch: Epoch, order: Order, now: Timestamp) -> Self {
        let times = Times { intended: now, ..Times::default() };
        Self { id, version: 0, epoch, order, state: State::Intended, times }
    }

    /// A machine that is there, with our tag, and stands in no entry.
    pub fn adopted(
        id: MachineId,
        epoch: Epoch,
        order: Order,
        (instance, launched): (InstanceName, Timestamp),
        now: Timestamp,
    ) -> Self {
        let times = Times {
            intended: now,
            requested: Some(launched.min(now)),
            launched: Some(launched.min(now)),
            ..Times::default()
        };
        Self { id, version: 0, epoch, order, state: State::Launched { instance }, times }
    }

    /// Its name in snapshots and plans: its id, since it has none from its provider at first.
    pub fn name(&self) -> InstanceName {
        InstanceName::new(&self.id.to_string()).expect("a UUID keeps the rule of names")
    }
}
