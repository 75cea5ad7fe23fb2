//! The autoscaler's world: traces in, kept promises and cost out.
//!
//! It runs the planner of `stoker-core`, the one that production runs, and the published policies of others
//! against the same jobs, prices and losses. It is deterministic: the same inputs and seed give the same result.

pub mod baseline;
#[cfg(feature = "bench")]
pub mod bench;
#[cfg(feature = "bench")]
pub mod bound;
pub mod cases;
pub mod catalog;
pub mod clairvoyant;
#[cfg(feature = "bench")]
pub mod cli;
pub mod intervals;
pub mod job;
pub mod market;
pub mod parallel;
pub mod planner;
pub mod plot;
pub mod policy;
#[cfg(feature = "bench")]
pub mod run;
pub mod score;
pub mod service;
pub mod service_times;
pub mod speed;
pub mod suite;
pub mod synthetic;
pub mod table;
pub mod timeline;
pub mod trace;
pub mod ways;
pub mod what_if;
pub mod world;
