//! The gRPC front: checks what comes in, asks the store, answers with statuses that say what to do.

mod accept;
pub(crate) mod access;
mod admin;
mod calls;
mod digest;
mod errors;
mod fleet;
pub(crate) mod gate;
mod health;
mod jobs;
mod page_token;
mod queue;
mod request_body;
pub mod server;
pub(crate) mod streams;
mod tenant;
mod workers;
