//! What the planner has to keep, taken from a checked fleet.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{ClassName, PoolName};

use super::check::{Budget, Class, Fleet, Scaling};

/// Pools that are scaled, and what may be spent on them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Policy {
    pub pools: BTreeMap<PoolName, PoolPolicy>,
    pub budget: Budget,
}

/// One pool's part.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolPolicy {
    pub classes: BTreeMap<ClassName, Class>,
    pub scaling: Scaling,
}

impl Policy {
    /// The pools of a fleet that have offerings; the others are started by somebody else.
    pub fn of(fleet: &Fleet) -> Self {
        let scaled = fleet.pools.iter().filter(|(_, pool)| !pool.scaling.offerings.is_empty());
        let pools = scaled.map(|(name, pool)| {
            let classes = fleet.classes.clone();
            (name.clone(), PoolPolicy { classes, scaling: pool.scaling.clone() })
        });
        Self { pools: pools.collect(), budget: fleet.budget }
    }
}

impl PoolPolicy {
    /// Whether jobs of a class may wait so long that workers are launched for the backlog alone, when
    /// `boot` is how long that takes.
    pub(crate) fn is_bulk(class: &Class, boot: Duration) -> bool {
        class.max_wait >= boot.saturating_mul(4).max(Duration::from_mins(15))
    }
}
