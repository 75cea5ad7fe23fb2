//! The first-run story: a corpus is embedded, a worker is killed half way, nothing is lost.

pub(crate) mod audit;
pub(crate) mod neighbors;
pub(crate) mod story;
pub(crate) mod summary;
pub(crate) mod victim;

pub(crate) use story::{Story, Told};
