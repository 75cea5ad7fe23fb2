//! Where machines are bought, as written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{PoolName, RegionName};
use crate::units::HumanDuration;

/// The table `provider`: one of its keys.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ProviderSpec {
    /// Amazon EC2, by region.
    pub ec2: Option<BTreeMap<RegionName, Ec2RegionSpec>>,
    /// Workers of this machine that are treated as if they were machines.
    pub local: Option<LocalSpec>,
}

/// A region of EC2.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Ec2RegionSpec {
    /// What the machines of each pool are launched from.
    pub launch_templates: BTreeMap<PoolName, LaunchTemplateSpec>,
    /// Subnet of each zone. Left out: the default subnets of the account.
    pub subnets: BTreeMap<String, String>,
}

/// A launch template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LaunchTemplateSpec {
    /// `lt-...`, or its name.
    pub id: String,
    /// A number. `$Default` and `$Latest` mean another machine from one day to the next, unnoticed.
    pub version: String,
}

/// This machine as a cloud.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LocalSpec {
    /// From launch to the start of the worker.
    pub boot: Option<HumanDuration>,
    /// Most workers of one offering.
    pub capacity: Option<u32>,
    /// How spot workers are taken back. Left out: they are not.
    pub interruptions: Option<InterruptionsSpec>,
}

/// Interruptions of spot workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InterruptionsSpec {
    /// Mean time that a spot worker is left alone.
    pub every: HumanDuration,
    /// Time from the notice to the end.
    pub notice: Option<HumanDuration>,
    /// Share of interruptions without notice.
    #[serde(default)]
    pub silent: f64,
}
