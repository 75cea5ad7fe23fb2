//! The coordinator: gRPC front and owner of job state.
//!
//! Calls come in through [`grpc`] and end in the [`store`], the only truth. Every committed change
//! goes through [`events`] to those who act on it: the [`dispatcher`], the [`sweeper`], workers'
//! streams in the [`registry`] and watchers in [`watch`]. [`run::run`] puts it together.

pub mod broker;
pub mod check;
pub mod config;
pub mod context;
pub mod dispatcher;
pub mod events;
pub mod grpc;
pub mod identity;
pub mod metrics;
pub mod needs;
pub mod observe;
pub mod peers;
pub mod publisher;
pub mod readiness;
pub mod registry;
mod room;
pub mod run;
pub mod store;
pub mod sweeper;
pub mod texts;
pub mod throughput;
pub mod watch;

#[cfg(test)]
mod testing;
