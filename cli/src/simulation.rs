//! What `stoker simulate` needs besides the simulator: arrivals from files and from a coordinator, and a pool.

mod arrivals;
mod history;
mod journal;
mod pool;

pub(crate) use arrivals::{Arrivals, Made, Part, parse};
pub(crate) use history::fetch;
pub(crate) use journal::arrivals as journaled;
pub(crate) use pool::{Pool, without_file};
