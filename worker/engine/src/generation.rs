//! The rules of generating text, without a network: how tokens are chosen, which sequences a step
//! works on, and where a text ends.

mod pieces;
mod sampler;
mod scheduler;
mod sequence;
mod stop;

pub use pieces::{Pieces, ToText};
pub use sampler::{SampleError, Sampling};
pub use scheduler::{Impossible, Room, Scheduler, Share};
pub use sequence::{Order, Sequence};
pub use stop::{Found, StopFinder};
