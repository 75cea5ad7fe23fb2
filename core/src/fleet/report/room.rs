//! What waits in a pool that is as large as it may be.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::InstanceName;

use super::RemoveReason;

/// What there is no room for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoRoom {
    /// Launches, of which so many are allowed.
    Launches { wanted: u32, allowed: u32 },
    /// The successor of what has to go, which therefore goes first once its turn has come.
    GoesFirst { instance: InstanceName, reason: RemoveReason },
    /// The successor of what is marked and may as well stay.
    Successor { instance: InstanceName, reason: RemoveReason },
    /// Machines of other sizes, which would cost so many dollars an hour less.
    Sizes { saving: f64 },
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Launches { wanted, allowed } => {
                write!(f, "{wanted} launches are wanted, the pool has room for {allowed}")
            }
            Self::GoesFirst { instance, reason } => write!(
                f,
                "{instance} is marked, and the pool has no room for its successor, so that one after \
                 the other goes before its own comes: {}",
                reason.why_marked()
            ),
            Self::Successor { instance, reason } => write!(
                f,
                "{instance} is marked and waits until the pool has room for its successor: {}",
                reason.why_marked()
            ),
            Self::Sizes { saving } => write!(
                f,
                "instances of other sizes would cost ${saving:.2} an hour less, and the pool has no \
                 room for them"
            ),
        }
    }
}
