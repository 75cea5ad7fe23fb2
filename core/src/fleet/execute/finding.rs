//! What was not done and why, and what an operator should know: data first, and sentences made from it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cloud::{Human, reaction};
use crate::fleet::caps::Cap;
use crate::fleet::ledger::{Failure, Mode};
use crate::ids::{InstanceName, MachineId, OfferingName, PoolName};
use crate::time::Timestamp;
use crate::units::HumanDuration;

/// A reason for something that was not done, or news.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// The ledger was read too long ago to act on.
    LedgerStale {
        age: Duration,
    },
    /// The provider's listing of a region is missing or old: nothing of it is judged by it.
    ListingUnknown {
        region: String,
        why: String,
    },
    /// Machines are in a region that the fleet file does not name: they are neither seen nor ended.
    RegionLost {
        region: String,
        machines: u32,
    },
    /// The coordinator's workers are not known: no machine that may run jobs is ended.
    WorkersUnknown {
        why: String,
    },
    /// More machines are missing from a listing than can be believed.
    ListingDistrusted {
        region: String,
        missing: u32,
        expected: u32,
    },
    /// The plan was made before the last launch.
    OldPlan,
    /// The switch forbids it.
    Switched {
        mode: Mode,
        launches: u32,
        removals: u32,
    },
    Capped {
        cap: Cap,
        wanted: u32,
        allowed: u32,
    },
    /// The pool may not have more.
    PoolFull {
        pool: PoolName,
        max: u32,
    },
    /// The account may not have more of the kind.
    QuotaReached {
        /// Its name, region and size.
        quota: String,
        instance_type: String,
        wanted: u32,
        allowed: u32,
    },
    /// It is not known where this is bought.
    NoSite {
        pool: PoolName,
        offering: OfferingName,
    },
    /// Boots of the template fail; it is not launched until then, or one at a time.
    BootLoop {
        template: String,
        until: Timestamp,
        trips: u32,
    },
    /// Launches in a region, or of an offering, failed for a reason that they have in common.
    Paused {
        what: String,
        until: Timestamp,
    },
    OneBootAtATime {
        template: String,
    },
    /// One launch tries whether what was paused is to be had again; the others wait for it.
    OneTryAtATime {
        what: String,
    },
    /// More machines that may be doing something were to end than may without an operator.
    MassTermination {
        held: u32,
        allowed: u32,
    },
    /// It runs jobs, so it is drained first.
    BusyDrained {
        machine: MachineId,
        running: u32,
    },
    /// Whether it exists is not known yet.
    Unresolved {
        machine: MachineId,
        since: Timestamp,
    },
    /// What it is told to end does not end.
    Stuck {
        machine: MachineId,
        instance: InstanceName,
        since: Timestamp,
    },
    /// A machine with our tag stands in no entry; it is looked at again.
    OrphanSeen {
        instance: InstanceName,
        since: Timestamp,
    },
    /// It has been taken into the ledger.
    Adopted {
        instance: InstanceName,
        machine: MachineId,
    },
    /// A machine did not boot.
    BootFailed {
        machine: MachineId,
        template: String,
    },
    /// A launch came to nothing.
    LaunchFailed {
        machine: MachineId,
        class: Failure,
        why: String,
    },
    /// A call was not carried out, or its outcome is not known.
    CallFailed {
        machine: MachineId,
        why: String,
    },
    /// The budget is about to be used up, and everything is drained.
    BudgetSpent {
        cap: Cap,
    },
    /// A template boots workers of another version than is wanted, so that replacing machines brings nothing.
    OtherVersion {
        template: String,
        wanted: String,
        found: String,
    },
    /// Something does not fit the ledger.
    Illegal {
        machine: MachineId,
        why: String,
    },
    /// The plan names a machine that the ledger does not have.
    UnknownMachine {
        name: InstanceName,
    },
}

impl Finding {
    /// Kinds of which a person may have to do something at once.
    pub const URGENT: [&str; 9] = [
        "region-lost",
        "no-site",
        "boot-loop",
        "mass-termination",
        "unresolved",
        "stuck",
        "budget-spent",
        "illegal",
        "launch-failed",
    ];

    /// What sort of thing it is, for metrics and filters.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::LedgerStale { .. } => "ledger-stale",
            Self::ListingUnknown { .. } => "listing-unknown",
            Self::RegionLost { .. } => "region-lost",
            Self::WorkersUnknown { .. } => "workers-unknown",
            Self::ListingDistrusted { .. } => "listing-distrusted",
            Self::OldPlan => "old-plan",
            Self::Switched { .. } => "switched",
            Self::Capped { .. } => "capped",
            Self::PoolFull { .. } => "pool-full",
            Self::QuotaReached { .. } => "quota-reached",
            Self::NoSite { .. } => "no-site",
            Self::BootLoop { .. } => "boot-loop",
            Self::Paused { .. } => "paused",
            Self::OneBootAtATime { .. } => "one-boot-at-a-time",
            Self::OneTryAtATime { .. } => "one-try-at-a-time",
            Self::MassTermination { .. } => "mass-termination",
            Self::BusyDrained { .. } => "busy-drained",
            Self::Unresolved { .. } => "unresolved",
            Self::Stuck { .. } => "stuck",
            Self::OrphanSeen { .. } => "orphan-seen",
            Self::Adopted { .. } => "adopted",
            Self::BootFailed { .. } => "boot-failed",
            Self::LaunchFailed { .. } => "launch-failed",
            Self::CallFailed { .. } => "call-failed",
            Self::BudgetSpent { .. } => "budget-spent",
            Self::OtherVersion { .. } => "other-version",
            Self::Illegal { .. } => "illegal",
            Self::UnknownMachine { .. } => "unknown-machine",
        }
    }

    /// Whether a person has to do something: soon means if it lasts.
    pub const fn human(&self) -> Human {
        match self {
            Self::RegionLost { .. }
            | Self::NoSite { .. }
            | Self::BootLoop { .. }
            | Self::MassTermination { .. }
            | Self::Unresolved { .. }
            | Self::Stuck { .. }
            | Self::BudgetSpent { .. }
            | Self::Illegal { .. } => Human::Now,
            Self::LaunchFailed { class, .. } => match class.class() {
                Some(class) => reaction(class).human,
                None => Human::NotNeeded,
            },
            Self::LedgerStale { .. }
            | Self::ListingUnknown { .. }
            | Self::ListingDistrusted { .. }
            | Self::WorkersUnknown { .. }
            | Self::Paused { .. }
            | Self::QuotaReached { .. }
            | Self::OtherVersion { .. }
            | Self::CallFailed { .. }
            | Self::UnknownMachine { .. } => Human::Soon,
            Self::OldPlan
            | Self::Switched { .. }
            | Self::Capped { .. }
            | Self::PoolFull { .. }
            | Self::OneBootAtATime { .. }
            | Self::OneTryAtATime { .. }
            | Self::BusyDrained { .. }
            | Self::OrphanSeen { .. }
            | Self::Adopted { .. }
            | Self::BootFailed { .. } => Human::NotNeeded,
        }
    }
}

fn time(duration: Duration) -> HumanDuration {
    HumanDuration::new(Duration::from_secs(duration.as_secs()))
}

impl fmt::Display for Finding {
    #[expect(clippy::too_many_lines, reason = "a sentence for each variant, and nothing else")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LedgerStale { age } => {
                write!(f, "the ledger was read {} ago; nothing is done", time(*age))
            }
            Self::ListingUnknown { region, why } => {
                write!(f, "the machines of {region} are not known: {why}")
            }
            Self::RegionLost { region, machines } => write!(
                f,
                "{machines} machines are in {region}, which the fleet file does not name: they cannot be \
                 ended before it is named again"
            ),
            Self::WorkersUnknown { why } => write!(f, "the workers are not known: {why}"),
            Self::ListingDistrusted { region, missing, expected } => write!(
                f,
                "the listing of {region} lacks {missing} of {expected} machines, which is not believed yet"
            ),
            Self::OldPlan => {
                f.write_str("the plan was made before the last launch; the next is waited for")
            }
            Self::Switched { mode, launches, removals } => write!(
                f,
                "the switch is at {mode}: {launches} launches and {removals} removals are not done"
            ),
            Self::Capped { cap, wanted, allowed } => {
                write!(f, "{wanted} launches are wanted, {cap} allows {allowed}")
            }
            Self::PoolFull { pool, max } => write!(f, "pool {pool} has its {max} machines"),
            Self::QuotaReached { quota, instance_type, wanted, allowed } => write!(
                f,
                "{wanted} launches of {instance_type} are wanted, the account's quota ({quota}) allows {allowed}"
            ),
            Self::NoSite { pool, offering } => {
                write!(f, "it is not configured where {offering} of pool {pool} is bought")
            }
            Self::BootLoop { template, until, trips } => write!(
                f,
                "boots of {template} fail, for the {trips}. time in a row; it is not launched until {until}"
            ),
            Self::Paused { what, until } => {
                write!(f, "launches of {what} fail; there are none until {until}")
            }
            Self::OneBootAtATime { template } => {
                write!(f, "boots of {template} failed lately; one at a time is tried")
            }
            Self::OneTryAtATime { what } => {
                write!(f, "launches of {what} failed lately; one at a time is tried")
            }
            Self::MassTermination { held, allowed } => write!(
                f,
                "{held} machines that may be at work are to end; only {allowed} are without an operator"
            ),
            Self::BusyDrained { machine, running } => {
                write!(f, "{machine} runs {running} jobs and is drained first")
            }
            Self::Unresolved { machine, since } => {
                write!(f, "whether {machine} exists is not known; it was asked for at {since}")
            }
            Self::Stuck { machine, instance, since } => {
                write!(f, "{machine} ({instance}) was told to end at {since} and has not")
            }
            Self::OrphanSeen { instance, since } => {
                write!(f, "{instance} has the fleet's tag and no entry, as seen since {since}")
            }
            Self::Adopted { instance, machine } => {
                write!(f, "{instance} was taken into the ledger as {machine}")
            }
            Self::BootFailed { machine, template } => {
                write!(f, "{machine} did not become a worker; it booted {template}")
            }
            Self::LaunchFailed { machine, class, why } => {
                write!(f, "{machine} could not be launched ({}): {why}", class.name())
            }
            Self::CallFailed { machine, why } => write!(f, "a call for {machine} failed: {why}"),
            Self::BudgetSpent { cap } => {
                write!(f, "{cap} is nearly used up; all machines are drained")
            }
            Self::OtherVersion { template, wanted, found } => {
                write!(f, "{template} boots workers of version {found}, and {wanted} is wanted")
            }
            Self::Illegal { machine, why } => write!(f, "{machine}: {why}"),
            Self::UnknownMachine { name } => {
                write!(f, "the plan names {name}, which is in no entry")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_urgent_is_named_as_such() {
        let (id, what) = (MachineId::from_bytes([1; 16]), || "r".to_owned());
        let (since, cap) = (Timestamp::from_unix_millis(0), Cap::Instances(1));
        let (pool, name) = (PoolName::new("gpu").unwrap(), OfferingName::new("g5.a").unwrap());
        let urgent = [
            Finding::RegionLost { region: what(), machines: 1 },
            Finding::NoSite { pool, offering: name },
            Finding::BootLoop { template: what(), until: since, trips: 1 },
            Finding::MassTermination { held: 1, allowed: 0 },
            Finding::Unresolved { machine: id, since },
            Finding::Stuck { machine: id, instance: InstanceName::new("i-1").unwrap(), since },
            Finding::BudgetSpent { cap },
            Finding::Illegal { machine: id, why: what() },
            Finding::LaunchFailed { machine: id, class: Failure::Invalid, why: what() },
        ];
        assert_eq!(urgent.each_ref().map(Finding::kind), Finding::URGENT);
        assert!(urgent.iter().all(|finding| finding.human() == Human::Now), "{urgent:?}");
    }
}
