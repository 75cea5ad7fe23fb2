//! How EC2 is reached, and how long each kind of call may take.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::fleet::Ec2Region;
use stoker_core::ids::{FleetName, RegionName};
use stoker_runtime::secret::Secret;

use crate::cloud::error::Verb;

/// EC2's bounds on the length of a page.
const PAGE: std::ops::RangeInclusive<u16> = 5..=1000;

/// Where a fleet's machines come from.
#[derive(Debug, Clone)]
pub struct Ec2Config {
    pub fleet: FleetName,
    /// At least one.
    pub regions: BTreeMap<RegionName, Ec2Region>,
    /// `None`: EC2's own in each region.
    pub endpoint: Option<String>,
    pub access: Access,
    pub limits: Ec2Limits,
}

/// Who calls.
#[derive(Debug, Clone)]
pub enum Access {
    /// What the environment gives: variables, a profile, a role of the machine or of the pod.
    Found,
    /// For servers that only look like EC2.
    Fixed { key: Secret, secret: Secret },
}

/// Bounds on calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ec2Limits {
    /// To be connected.
    pub connect: Duration,
    /// For a try at a launch: EC2 answers an instant fleet when it has its machines.
    pub launch: Duration,
    pub terminate: Duration,
    /// For a page of anything that is read.
    pub read: Duration,
    /// Machines on a page of a list.
    pub page: u16,
}

impl Default for Ec2Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            launch: Duration::from_mins(1),
            terminate: Duration::from_secs(20),
            read: Duration::from_secs(15),
            page: 500,
        }
    }
}

impl Ec2Limits {
    /// For one try at a call of this kind.
    pub(super) const fn of(&self, verb: Verb) -> Duration {
        match verb {
            Verb::Launch => self.launch,
            Verb::Terminate => self.terminate,
            Verb::Rehearse
            | Verb::List
            | Verb::Prices
            | Verb::Types
            | Verb::Setup
            | Verb::Quotas => self.read,
        }
    }

    /// For any try.
    pub(super) fn longest(&self) -> Duration {
        Verb::ALL.into_iter().map(|verb| self.of(verb)).max().unwrap_or(self.launch)
    }

    pub(super) fn page(&self) -> i32 {
        i32::from(self.page.clamp(*PAGE.start(), *PAGE.end()))
    }
}
