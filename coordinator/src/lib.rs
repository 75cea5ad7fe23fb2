//! The coordinator: gRPC front and owner of job state.

pub mod store;
