//! `fleet.toml`: what the fleet is. One file for coordinator, worker and CLI.
//!
//! [`FleetSpec`] is the file as written; [`FleetSpec::check`] turns it into a [`Fleet`] in which
//! every reference resolves, or into the whole list of [`Problem`]s. Reading files is the caller's.

mod check;
mod spec;

pub use check::{Class, Fleet, Limits, Model, Pool, Problem, Retention, Source, Tenant};
pub use spec::FleetSpec;
