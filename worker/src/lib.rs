//! The worker: takes deliveries, runs engines, reports results.
//!
//! Deliveries are hints ([`intake`]); a claim turns one into a granted attempt. The [`agent`] puts
//! attempts on the [`board`] of their model, which packs items of several jobs into batches for
//! the engine process that the [`supervisor`] keeps alive. Results go back through [`report`], and
//! only a definitive answer settles the delivery.
//!
//! [`interruption`] hears what the cloud announces about the machine; whoever asks the worker to go, it goes in
//! the same way.
//!
//! The worker links no model code and no device library, and holds no truth: whatever it loses is
//! run again by somebody else.

pub mod agent;
pub mod attempt;
mod blocking;
pub mod board;
mod boot;
pub mod config;
pub mod dead_man;
pub mod engines;
pub mod error;
mod faces;
mod generation;
pub mod gpu;
mod images;
pub mod intake;
pub mod interruption;
pub mod link;
pub mod memory;
pub mod metrics;
pub mod queue;
pub mod report;
mod run;
mod settle;
mod speech;
pub mod spool;
pub mod supervisor;
pub mod weights;

pub use config::{Config, Settings};
pub use error::{SettingsError, WorkerError};
pub use run::run;
