//! How every process starts, is configured, observed and stopped.
//!
//! The only part of Stoker that reads the clock, the environment or randomness, and the only home
//! of the telemetry exporters and of `backoff`. Nothing here knows what a job is for: rules are in
//! `stoker-core`, services in their own crates.
//!
//! A `main` wires these parts in the open: load [`config`], start [`telemetry`] and [`metrics`],
//! make [`tasks::Tasks`], attach [`signals`], run the service, then
//! [`close_and_wait`](tasks::Tasks::close_and_wait) and flush.

pub mod child;
pub mod clock;
pub mod config;
pub mod crash;
pub mod error;
pub mod fleet;
pub mod fs;
pub mod ids;
pub mod metrics;
pub mod net;
pub mod retry;
pub mod secret;
pub mod signals;
pub mod tasks;
pub mod telemetry;
pub mod token;
pub mod trace_context;
