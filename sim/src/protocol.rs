//! The job protocol under faults: core's rules over models of store, broker, workers and clients.
//!
//! A seed is a world with a random subset of faults ([`Setup`]). [`run`] moves it on event by event
//! in virtual time, while a referee checks the [`Invariant`]s after each commit and at each
//! observation; then everything is healed, and all must come to rest. [`Sabotage`] puts bugs into the
//! simulated shells, to show that the referee would see them.

mod broker;
mod campaign;
mod checker;
pub mod cli;
mod client;
mod coordinator;
mod faults;
mod invariants;
mod log;
pub(crate) mod random;
mod run;
mod sabotage;
mod schedule;
mod setup;
mod store;
mod tally;
mod types;
mod worker;
mod world;

pub use campaign::{Campaign, Reduced, campaign, shrink};
pub use invariants::{Invariant, Violation};
pub use log::Trace;
pub use run::{Outcome, run};
pub use sabotage::Sabotage;
pub use setup::{Fault, Setup, Shape};
pub use tally::{Bite, Tally};
