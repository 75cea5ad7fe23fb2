//! The rules of generating text, without a network: how tokens are chosen, which sequences a step
//! works on, and where a text ends.

mod sampler;
mod scheduler;
mod stop;

pub use sampler::{SampleError, Sampling};
pub use scheduler::{Impossible, Room, Scheduler, Share};
pub use stop::{Found, StopFinder};
