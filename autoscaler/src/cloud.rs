//! The clouds that machines come from: one trait, its errors, and who implements it.
//!
//! [`memory`] is a cloud in memory with faults, for tests and simulations; [`local`] starts workers on this
//! machine; `ec2`, behind the feature of that name, is Amazon's.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
#[cfg(feature = "ec2")]
pub mod ec2;
mod error;
pub mod local;
mod machine;
mod market;
pub mod memory;
pub mod owner;
mod provider;
mod request;
mod stock;
mod token;

pub use error::{CloudError, ErrorClass, Verb};
pub use machine::{Machine, MachineState};
pub use market::{Gpu, MachineType, SpotPrice, latest_prices};
pub use provider::{CloudProvider, TOKEN_LIFE, Terminated};
pub use request::{Launch, LaunchProblem, Launched, MOST_MACHINES, MOST_TAGS, Refusal};
pub use token::{LaunchToken, NotAToken};
