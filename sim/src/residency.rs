//! Many models on one device that has not the memory for all of them: the rule against plain LRU.
//!
//! The device does one thing at a time, a job or a load, so every load is time lost. Jobs come as a Poisson
//! stream, and Zipf's law says for which model. All policies meet the same jobs.

pub mod cli;
mod load;
mod outcome;
mod world;

pub use load::{Load, Setup};
pub use outcome::{Comparison, Outcome};
pub use world::{Policy, run};
