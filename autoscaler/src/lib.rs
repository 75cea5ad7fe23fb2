//! The autoscaler: leads, looks at the fleet, plans, writes down what it will do, and does it.
//!
//! What should be bought is decided by `stoker_core::fleet`, what follows from a refusal by `stoker_core::cloud`,
//! and what may be done when by `stoker_core::fleet::execute`. Here is what carries it out: [`Autoscaler`] with the
//! coordinator on one side and a cloud behind [`cloud::CloudProvider`] on the other.

mod autoscaler;
pub mod cloud;
pub mod config;
pub mod coordinator;
#[cfg(test)]
mod fixtures;
mod hands;
mod journal;
mod market;
pub mod metrics;
pub mod operator;
pub mod provider;
pub mod run;
mod sites;
mod totals;
mod watch;

pub use autoscaler::{Autoscaler, Parts};
pub use journal::Journal;
pub use sites::sites;
