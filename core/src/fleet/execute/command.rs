//! What is asked of the provider and of workers, and what comes of it.

use serde::{Deserialize, Serialize};

use crate::fleet::ledger::Failure;
use crate::fleet::plan::Plan;
use crate::ids::{InstanceName, MachineId, WorkerId};
use crate::time::Timestamp;

/// A call. What it is for stands in the machine's entry; each may be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Ask for the machine of this entry, with the id as the client token and as a tag.
    Launch {
        machine: MachineId,
    },
    /// Look for a machine of this token or tag.
    Resolve {
        machine: MachineId,
    },
    /// Tell the worker to take no new work, and to be done by the deadline.
    Drain {
        machine: MachineId,
        worker: WorkerId,
        deadline: Timestamp,
    },
    Terminate {
        machine: MachineId,
        region: String,
        instance: InstanceName,
    },
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Launched {
        machine: MachineId,
        instance: InstanceName,
        launched_at: Timestamp,
    },
    /// There is no machine, and there will be none from this call.
    Refused {
        machine: MachineId,
        class: Failure,
        why: String,
    },
    /// There may be a machine: no answer came, or none that says.
    Unsure {
        machine: MachineId,
        why: String,
    },
    /// What a [`Command::Resolve`] found, which began at `asked_at`.
    Resolved {
        machine: MachineId,
        found: Option<(InstanceName, Timestamp)>,
        asked_at: Timestamp,
    },
    /// A terminate, a drain or a look-up was not carried out; it is repeated.
    NotDone {
        machine: MachineId,
        class: Failure,
        why: String,
    },
}

/// A plan, and how much of the ledger it knew.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    pub plan: Plan,
    /// [`Account::intents`] of the ledger that it was made from. A plan from before the last launch would launch
    /// again.
    ///
    /// [`Account::intents`]: crate::fleet::ledger::Account::intents
    pub intents: u64,
}
