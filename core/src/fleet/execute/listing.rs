//! What a provider lists: machines with our owner tag.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fleet::snapshot::Reading;
use crate::ids::{InstanceName, MachineId, OfferingName, PoolName};
use crate::time::Timestamp;

/// A listing of each region that can be asked, with its time.
pub type Listings = BTreeMap<String, Reading<Vec<Machine>>>;

/// A machine with our owner tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub instance: InstanceName,
    /// The entry that it was asked for; `None` if the tag is missing or cannot be read.
    pub tag: Option<MachineId>,
    /// As its tags say.
    pub pool: Option<PoolName>,
    pub offering: Option<OfferingName>,
    pub state: MachineState,
    pub launched_at: Timestamp,
}

/// What the provider says of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineState {
    Pending,
    Running,
    /// On its way out.
    ShuttingDown,
    /// Gone, and costs nothing.
    Ended(EndedBy),
}

/// Who ended a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// A call, ours or an operator's, or the machine itself.
    Request,
    /// The provider took it back.
    Interruption,
}
