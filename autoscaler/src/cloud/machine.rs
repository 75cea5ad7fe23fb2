//! A machine as its cloud shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stoker_core::fleet::CapacityType;
use stoker_core::ids::{InstanceName, OfferingName, PoolName};
use stoker_core::money::HourlyPrice;
use stoker_core::time::Timestamp;

use super::owner;
use super::token::LaunchToken;

/// One machine of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub name: InstanceName,
    pub instance_type: String,
    pub zone: String,
    pub capacity: CapacityType,
    pub state: MachineState,
    pub launched_at: Timestamp,
    /// The cloud took it back, or is about to: it is not somebody's order that it ends.
    #[serde(default)]
    pub taken_back: bool,
    pub tags: BTreeMap<String, String>,
    /// What it costs; `None` where the cloud does not say.
    pub price: Option<HourlyPrice>,
}

/// Where a machine is in its life, as far as the cloud knows. Whether its worker works is not the cloud's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineState {
    Pending,
    Running,
    /// On its way out; may still cost money.
    Stopping,
    /// Gone; it is shown for a while and costs nothing.
    Terminated,
}

impl MachineState {
    /// Whether it may cost money.
    pub const fn is_live(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Stopping => true,
            Self::Terminated => false,
        }
    }

    /// Whether it is there and nobody has ended it.
    pub const fn is_up(self) -> bool {
        match self {
            Self::Pending | Self::Running => true,
            Self::Stopping | Self::Terminated => false,
        }
    }
}

impl Machine {
    /// The offering that it is of, in the words of a fleet file; `None` if such a name cannot be made.
    pub fn offering(&self) -> Option<OfferingName> {
        let capacity = self.capacity.as_str();
        OfferingName::new(&format!("{}.{}.{capacity}", self.instance_type, self.zone)).ok()
    }

    /// The pool that it was launched for.
    pub fn pool(&self) -> Option<PoolName> {
        owner::pool(&self.tags)
    }

    /// The launch that it came from.
    pub fn token(&self) -> Option<LaunchToken> {
        owner::token(&self.tags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_of_the_offering_that_the_fleet_file_names() {
        let machine = Machine {
            name: InstanceName::new("i-1").unwrap(),
            instance_type: "g5.xlarge".to_owned(),
            zone: "us-east-1a".to_owned(),
            capacity: CapacityType::Spot,
            state: MachineState::Running,
            launched_at: Timestamp::default(),
            taken_back: false,
            tags: BTreeMap::new(),
            price: None,
        };
        assert_eq!(machine.offering().unwrap().as_str(), "g5.xlarge.us-east-1a.spot");
        let odd = Machine { instance_type: "G5 Large".to_owned(), ..machine };
        assert_eq!(odd.offering(), None);
    }
}
