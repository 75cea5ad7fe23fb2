//! A stand-in for EC2 in tests: a moto server, and a proxy that adds what it lacks.
//!
//! moto keeps machines, templates and tags as EC2 does. It forgets launch tokens, never fails and never runs out of
//! anything; that is the proxy's part.

mod moto;
mod proxy;

pub use moto::MotoServer;
pub use proxy::{Ec2Proxy, Order};
