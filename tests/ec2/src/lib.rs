//! A stand-in for EC2 and S3 in tests: a moto server, and a proxy that adds what its EC2 lacks.
//!
//! moto keeps machines, templates and tags as EC2 does, and objects as S3 does. Of EC2 it forgets launch tokens, never
//! fails and never runs out of anything; that is the proxy's part.

mod moto;
mod proxy;

pub use moto::MotoServer;
pub use proxy::{Ec2Proxy, Order};
