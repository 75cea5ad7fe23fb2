//! The decisions: pure rules over values.
//!
//! Nothing here does I/O, reads a clock, an environment variable or a random source, or iterates
//! over a hash table. Callers pass `now`, jitter and fresh ids in, and perform the effects that
//! come out. The same code therefore runs in production, in property tests and in simulation.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod admission;
pub mod batch;
pub mod caption;
pub mod cloud;
pub mod departure;
pub mod dispatch;
pub mod face;
pub mod fleet;
pub mod generation;
pub mod identity;
pub mod ids;
pub mod image;
pub mod job;
pub mod labels;
pub mod money;
pub mod outbox;
pub mod policy;
pub mod request;
pub mod residency;
pub mod retry;
pub mod speech;
pub mod time;
pub mod told;
pub mod units;
pub mod window;
pub mod worker;
pub mod zero_shot;
