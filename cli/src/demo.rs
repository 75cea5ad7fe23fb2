//! The first-run story in two acts: a corpus is embedded, a worker is killed half way, nothing is lost; and a fleet buys its
//! machines and gives them back.

pub(crate) mod audit;
mod bill;
mod machines;
pub(crate) mod neighbors;
mod scaling;
pub(crate) mod story;
pub(crate) mod summary;
pub(crate) mod victim;

pub(crate) use bill::Bill;
pub(crate) use scaling::Scaling;
pub(crate) use story::{Story, Told};
