//! RabbitMQ 3.10 to 4.x through lapin, which is used nowhere else.
//!
//! lapin runs on one thread of its own, so that a blocked application can't starve heartbeats.
//! Its recovery is not used: it can hang without a sign. A supervisor (`supervisor`) owns each
//! connection, probes it on any doubt, and drops it and builds everything anew when that fails. Publishing and
//! consuming have separate connections, because a broker short of memory stops reading from
//! connections that publish, acknowledgements included. No await on lapin is without a timeout.

mod admin;
mod config;
mod consumer;
mod failure;
mod gate;
mod intake;
mod lane;
mod link;
mod live;
mod publisher;
#[cfg(any(test, feature = "contract"))]
pub mod raw;
mod retry;
mod subscriber;
mod supervisor;
mod uri;
mod version;
mod window;

pub use config::{Backoff, RabbitMqConfig};
pub use publisher::RabbitMqPublisher;
pub use subscriber::RabbitMqSubscriber;
pub use uri::BrokerUri;
pub use version::ServerVersion;
