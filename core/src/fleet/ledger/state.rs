//! Where a machine is in its life, and why it leaves it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cloud::ErrorClass;
use crate::ids::{InstanceName, WorkerId};
use crate::time::Timestamp;

/// Where a machine is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It will be asked for. No call was made, so it can be called off.
    Intended,
    /// A call may have been made, so many times; what came of it is not known.
    Requested { calls: u32 },
    /// The provider has made it. Nothing has been heard of it yet.
    Launched { instance: InstanceName },
    /// Its worker is registered.
    Ready { instance: InstanceName, worker: WorkerId },
    /// Its worker takes no new work, and has until the deadline to be done.
    Draining { instance: InstanceName, worker: WorkerId, deadline: Timestamp, why: Leave },
    /// The provider is told to end it, until it says that it has.
    Terminating { instance: InstanceName, why: Leave },
    /// It was there and is no more.
    Gone { instance: InstanceName, why: Ending },
    /// It never was there.
    Failed { class: Failure, why: String },
}

/// The states without what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateKind {
    Intended,
    Requested,
    Launched,
    Ready,
    Draining,
    Terminating,
    Gone,
    Failed,
}

/// Why a machine is taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leave {
    /// The planner wants it gone.
    Planned { why: String },
    /// The planner takes it for dead.
    Dead { why: String },
    /// It was to be empty by the deadline of its drain.
    Overdue { why: String },
    /// The provider takes it back.
    Interrupted,
    /// Its worker never registered.
    NeverRegistered,
    /// It carries the fleet's tag and stood in no entry.
    Orphan,
    /// The fleet is being drained.
    DrainSwitch,
    /// Everything ends now.
    Panic,
    /// An operator wants this one gone.
    Ordered { by: String, why: String },
    /// The budget is used up.
    OverBudget,
}

/// How a machine came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// We ended it.
    Terminated(Leave),
    /// The provider took it back.
    Interrupted,
    /// It ended by itself, or somebody else ended it.
    Elsewhere,
    /// It is in no listing any more.
    Vanished,
}

/// Why there is no machine: classes of what a provider says, each with a behavior of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// There is none to be had at the moment.
    Capacity,
    /// The account may not have more.
    Quota,
    /// Too many calls.
    Throttled,
    /// The caller may not do this.
    Auth,
    /// The request makes no sense to the provider, and will not a second time.
    Invalid,
    /// The provider had a problem of its own.
    Transient,
    /// What the provider said is not known here.
    Unknown,
    /// Asked for, and nowhere to be seen.
    NeverSeen,
    /// It was not wanted any more before it was asked for.
    CalledOff,
}

impl State {
    pub const fn kind(&self) -> StateKind {
        match self {
            Self::Intended => StateKind::Intended,
            Self::Requested { .. } => StateKind::Requested,
            Self::Launched { .. } => StateKind::Launched,
            Self::Ready { .. } => StateKind::Ready,
            Self::Draining { .. } => StateKind::Draining,
            Self::Terminating { .. } => StateKind::Terminating,
            Self::Gone { .. } => StateKind::Gone,
            Self::Failed { .. } => StateKind::Failed,
        }
    }

    /// Whether it may exist, cost money and take up a place: until the contrary is known.
    pub const fn counts(&self) -> bool {
        !matches!(self, Self::Gone { .. } | Self::Failed { .. })
    }

    /// Its provider's name for it, once there is one.
    pub const fn instance(&self) -> Option<&InstanceName> {
        match self {
            Self::Intended | Self::Requested { .. } | Self::Failed { .. } => None,
            Self::Launched { instance }
            | Self::Ready { instance, .. }
            | Self::Draining { instance, .. }
            | Self::Terminating { instance, .. }
            | Self::Gone { instance, .. } => Some(instance),
        }
    }

    /// Its worker, while it is known to have one.
    pub const fn worker(&self) -> Option<WorkerId> {
        match self {
            Self::Ready { worker, .. } | Self::Draining { worker, .. } => Some(*worker),
            Self::Intended
            | Self::Requested { .. }
            | Self::Launched { .. }
            | Self::Terminating { .. }
            | Self::Gone { .. }
            | Self::Failed { .. } => None,
        }
    }
}

impl StateKind {
    pub const ALL: [Self; 8] = [
        Self::Intended,
        Self::Requested,
        Self::Launched,
        Self::Ready,
        Self::Draining,
        Self::Terminating,
        Self::Gone,
        Self::Failed,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Requested => "requested",
            Self::Launched => "launched",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Terminating => "terminating",
            Self::Gone => "gone",
            Self::Failed => "failed",
        }
    }
}

impl Failure {
    pub const ALL: [Self; 9] = [
        Self::Capacity,
        Self::Quota,
        Self::Throttled,
        Self::Auth,
        Self::Invalid,
        Self::Transient,
        Self::Unknown,
        Self::NeverSeen,
        Self::CalledOff,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Quota => "quota",
            Self::Throttled => "throttled",
            Self::Auth => "auth",
            Self::Invalid => "invalid",
            Self::Transient => "transient",
            Self::Unknown => "unknown",
            Self::NeverSeen => "never-seen",
            Self::CalledOff => "called-off",
        }
    }

    /// What the provider said, in the words of `core::cloud`; `None` if it was not asked.
    pub const fn class(self) -> Option<ErrorClass> {
        Some(match self {
            Self::Capacity => ErrorClass::Capacity,
            Self::Quota => ErrorClass::Quota,
            Self::Throttled => ErrorClass::Throttle,
            Self::Auth => ErrorClass::Auth,
            Self::Invalid => ErrorClass::Invalid,
            Self::Transient => ErrorClass::Transient,
            Self::Unknown | Self::NeverSeen => ErrorClass::Unknown,
            Self::CalledOff => return None,
        })
    }
}

impl Leave {
    /// Its name for programs; of what the planner wants, a plan says more.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Planned { .. } => "planned",
            Self::Dead { .. } => "dead",
            Self::Overdue { .. } => "drain-overdue",
            Self::Interrupted => "interrupted",
            Self::NeverRegistered => "never-registered",
            Self::Orphan => "orphan",
            Self::DrainSwitch => "drain-switch",
            Self::Panic => "panic",
            Self::Ordered { .. } => "ordered",
            Self::OverBudget => "over-budget",
        }
    }

    /// Whether the machine is ended without knowing that it does nothing. Of such, only a few go at a time.
    pub const fn is_blind(&self) -> bool {
        match self {
            Self::Dead { .. } | Self::Overdue { .. } | Self::NeverRegistered | Self::Orphan => true,
            Self::Planned { .. }
            | Self::Interrupted
            | Self::DrainSwitch
            | Self::Panic
            | Self::Ordered { .. }
            | Self::OverBudget => false,
        }
    }

    /// Whether an operator named this very machine: that holds while the fleet is frozen, too.
    pub const fn is_ordered(&self) -> bool {
        matches!(self, Self::Ordered { .. })
    }
}

impl fmt::Display for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planned { why } | Self::Dead { why } => f.write_str(why),
            Self::Overdue { why } => write!(f, "its time to drain is over: {why}"),
            Self::Interrupted => f.write_str("the provider takes it back"),
            Self::NeverRegistered => f.write_str("its worker did not register in time"),
            Self::Orphan => {
                f.write_str("it has the fleet's tag and stood in no entry of the ledger")
            }
            Self::DrainSwitch => f.write_str("the fleet is being drained"),
            Self::Panic => f.write_str("everything is to end at once"),
            Self::Ordered { by, why } => write!(f, "ordered by {by}: {why}"),
            Self::OverBudget => f.write_str("the budget is used up"),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Terminated(why) => write!(f, "ended: {why}"),
            Self::Interrupted => f.write_str("the provider took it back"),
            Self::Elsewhere => f.write_str("it ended by itself or by another's hand"),
            Self::Vanished => f.write_str("the provider does not list it any more"),
        }
    }
}
