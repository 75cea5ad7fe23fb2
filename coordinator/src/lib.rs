//! The coordinator: gRPC front and owner of job state.

pub mod dispatcher;
pub mod events;
pub mod metrics;
pub mod registry;
pub mod store;
pub mod sweeper;
pub mod watch;
