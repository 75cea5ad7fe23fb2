//! The fleet: what it is, and how many machines it should have.
//!
//! `fleet.toml` is one file for coordinator, worker, autoscaler and CLI. [`FleetSpec`] is the file as
//! written; [`FleetSpec::check`] turns it into a [`Fleet`] in which every reference resolves, or into the
//! whole list of [`Problem`]s. Reading files is the caller's.
//!
//! [`plan()`] is the autoscaler's mind: a [`Snapshot`] of what is, and a [`Memory`] of what was, become a
//! [`Plan`] of what should happen and a [`Report`] that says why. It runs in production, in simulation and in `stoker
//! plan` alike.

mod backlog;
mod capacity;
mod caps;
mod check;
mod clock;
pub mod cost;
mod counters;
mod demand;
mod disrupt;
pub mod drift;
pub mod execute;
mod expectation;
mod input;
pub mod journal;
mod launch;
pub mod ledger;
mod memory;
mod number;
mod patience;
mod plan;
mod policy;
mod pool;
mod precision;
pub mod prompts;
mod provision;
mod recall;
mod removal;
mod report;
mod roster;
mod sizing;
mod snapshot;
mod spec;
mod spot;
mod terms;
#[cfg(test)]
mod tests;
mod ties;
mod wait;
mod want;
mod warm;

pub use caps::Cap;
pub use check::{
    Budget, Class, Disruption, DisruptionBudget, Ec2Region, Fleet, Interruptions, LaunchTemplate,
    Limits, Local, Model, Offering, Pool, Problem, Provider, Retention, Scaling, Source, Tenant,
};
pub use clock::clock_off;
pub use demand::quiet::BreakEven;
pub use input::{Hold, Part, STALE_AFTER};
pub use memory::Memory;
pub use plan::{INTERVAL, Plan, Planned, Step, plan};
pub use policy::{Policy, PoolPolicy};
pub use precision::Precision;
pub use recall::{PastSlot, recall};
pub use report::{
    ClassFindings, Findings, LaunchReason, NoRoom, Note, PoolReport, RemoveReason, Report,
};
pub use snapshot::{
    Instance, InstanceState, Market, Notice, PoolSnapshot, Queue, Reading, Snapshot, Waiting,
};
pub use spec::{
    AtATime, AtLimit, BudgetSpec, CapacityType, Day, DisruptionBudgetSpec, DisruptionReason,
    DisruptionSpec, Ec2RegionSpec, FleetSpec, InterruptionsSpec, LaunchTemplateSpec, LocalSpec,
    OfferingSpec, ParseBudgetError, ProviderSpec, ScalingSpec, Window,
};
pub use wait::Prediction;
