//! What may be bought for a pool, and how much may be spent.

use serde::{Deserialize, Serialize};

use crate::units::HumanDuration;

use super::disruption::DisruptionSpec;

/// How an instance is paid for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum CapacityType {
    /// Cheap, and taken back when the provider needs it.
    Spot,
    #[default]
    OnDemand,
}

impl CapacityType {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spot => "spot",
            Self::OnDemand => "on-demand",
        }
    }
}

/// Something that could be launched for a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OfferingSpec {
    pub instance_type: String,
    pub zone: String,
    #[serde(default)]
    pub capacity: CapacityType,
    /// Dollars an hour.
    pub price: f64,
    /// Jobs per second, over those of the pool's reference worker, when each starts as soon as it can.
    #[serde(default = "one")]
    pub speed: f64,
    /// The same when batches are as large as they can be. Left out: `speed`.
    pub bulk_speed: Option<f64>,
}

fn one() -> f64 {
    1.0
}

/// What becomes of machines when the dollars of a day or month are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AtLimit {
    /// Nothing more is launched. What runs goes on as long as it is needed, so that a bound may be exceeded by what
    /// that costs until the end of the day or month.
    #[default]
    Stop,
    /// All machines are drained as well, soon enough that the bound is kept. What is left of it then buys fewer
    /// machines, as long as an hour of them fits; after that jobs wait until the next day or month.
    Drain,
}

/// Bounds on what is bought. What is left out is not bounded.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BudgetSpec {
    /// Most instances over all pools.
    pub max_instances: Option<u32>,
    /// Most launches in any ten minutes.
    pub max_launches: Option<u32>,
    /// Most dollars an hour, for what runs at a time.
    pub per_hour: Option<f64>,
    /// Dollars of a day (UTC) after which `at_limit` holds.
    pub per_day: Option<f64>,
    /// Dollars of a month (UTC) after which `at_limit` holds.
    pub per_month: Option<f64>,
    /// What `per_day` and `per_month` mean to machines that run.
    pub at_limit: AtLimit,
}

/// How a pool grows and shrinks; part of its table.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ScalingSpec {
    /// Fewest instances.
    pub min: u32,
    /// Most instances. Left out: only the budget bounds them.
    pub max: Option<u32>,
    /// Workers beyond those that are needed, kept ready.
    pub warm: u32,
    /// How long a launch takes to become a worker, until that has been measured.
    pub boot: Option<HumanDuration>,
    /// Age at which an instance is replaced. Left out: never.
    pub expire_after: Option<HumanDuration>,
    /// How many machines may be taken out at a time. Left out: as the fleet's table of that name says.
    pub disruption: Option<DisruptionSpec>,
}
