//! The planner: from what is known to what should happen.
//!
//! Pure, total and deterministic: the same policy, snapshot, memory and time give the same plan, and none of
//! them can make it fail. A pool whose readings cannot be trusted is left as it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{InstanceName, OfferingName, PoolName};
use crate::money::Money;
use crate::time::Timestamp;

use super::memory::Memory;
use super::policy::Policy;
use super::pool;
use super::report::{LaunchReason, PoolReport, RemoveReason, Report};
use super::snapshot::{PoolSnapshot, Reading, Snapshot};
use super::warm;

/// What should happen, in this order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[must_use]
pub struct Plan {
    pub steps: Vec<Step>,
}

/// One thing that should happen, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Launch {
        pool: PoolName,
        offering: OfferingName,
        count: u32,
        reason: LaunchReason,
    },
    /// The instance takes no new work and ends when it has none, or at the deadline.
    Drain {
        pool: PoolName,
        instance: InstanceName,
        deadline: Timestamp,
        reason: RemoveReason,
    },
    /// The instance ends; it runs nothing, or is dead, or had its time to drain.
    Terminate {
        pool: PoolName,
        instance: InstanceName,
        reason: RemoveReason,
    },
}

/// A plan, why it is so, and what to pass to the next call.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Planned {
    pub plan: Plan,
    pub report: Report,
    pub memory: Memory,
}

/// Plans for every pool of the policy.
pub fn plan(policy: &Policy, snapshot: &Snapshot, mut memory: Memory, now: Timestamp) -> Planned {
    let (instances, per_hour) = running(policy, snapshot);
    memory.ledger.charge(per_hour, now);
    let mut allowance = memory.ledger.allowance(&policy.budget, instances, per_hour);
    let mut plan = Plan::default();
    let mut report = Report::default();
    // What a removed pool has taught is forgotten.
    memory.pools.retain(|name, _| policy.pools.contains_key(name));
    let warm = warm::pools(policy, &memory, now);
    for (name, pool_policy) in &policy.pools {
        let pool_memory = memory.pools.entry(name.clone()).or_default();
        let observed = snapshot.pools.get(name);
        let warm_for = warm.get(name).copied();
        let context = pool::Context { name, policy: pool_policy, observed, warm_for, now };
        match pool::plan(&context, pool_memory, &mut allowance) {
            Ok((steps, findings)) => {
                plan.steps.extend(steps);
                report.pools.insert(name.clone(), PoolReport::Planned(Box::new(findings)));
            }
            Err(hold) => {
                report.pools.insert(name.clone(), PoolReport::Held(hold));
            }
        }
    }
    let launches = plan.steps.iter().map(|step| match step {
        Step::Launch { count, .. } => *count,
        Step::Drain { .. } | Step::Terminate { .. } => 0,
    });
    memory.ledger.launched(launches.fold(0, u32::saturating_add), now);
    Planned { plan, report, memory }
}

/// All instances of all pools, whether or not their reading is fresh, and what they cost an hour: a bound is
/// kept with what is known to run, not with what is convenient.
fn running(policy: &Policy, snapshot: &Snapshot) -> (u32, Money) {
    let (mut count, mut per_hour) = (0_u32, Money::ZERO);
    for (name, observed) in &snapshot.pools {
        let PoolSnapshot { instances: Reading::Known { value, .. }, .. } = observed else {
            continue;
        };
        count = count.saturating_add(u32::try_from(value.len()).unwrap_or(u32::MAX));
        if let Some(pool) = policy.pools.get(name) {
            let price = |offering| super::provision::price_of(&pool.scaling, offering);
            per_hour = per_hour.plus(value.iter().map(|i| price(&i.offering)).sum());
        }
    }
    (count, per_hour)
}

/// How often the planner wants to be asked.
pub const INTERVAL: Duration = super::demand::history::SLOT;
