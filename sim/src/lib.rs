//! The rules at virtual speed: simulations that run core's decisions against models of the world.
//!
//! Nothing here is a service, and nothing here decides: what is simulated is the code of
//! `stoker-core` that the services run.

pub mod fleet;
pub mod machines;
pub mod protocol;
pub mod residency;
pub mod verdict;
