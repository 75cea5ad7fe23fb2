//! The coordinator over its own port: every answer a client, a worker or an operator can get.
#![expect(clippy::unwrap_used, reason = "what fails here fails a test")]

mod access;
mod admin;
mod attempts;
mod explain;
mod fixture;
mod fleet;
mod hostile;
mod identity;
mod images;
mod jobs;
mod join;
mod lifecycle;
mod pages;
mod queue;
mod recordings;
mod registration;
mod results;
mod tenants;
mod texts;
