//! The executor of plans under faults: two autoscalers on one ledger, a provider whose every call may fail, and
//! machines that boot, work and are taken back.
//!
//! `core::fleet::execute` decides; what stands here are its shells and its world. A referee looks at the world,
//! never at what the executor thinks of it.

mod autoscaler;
pub mod cli;
mod cloud;
mod referee;
mod run;
mod sabotage;
mod store;
mod tally;
mod workers;
mod world;

pub use referee::{Rule, Violation};
pub use run::{Outcome, run};
pub use sabotage::Sabotage;
pub use tally::Tally;
