//! What networks of images share, and the networks of texts beside them: patches and words as tokens, a tower of layers
//! that they go through, and the vector at its end.

mod asking;
mod config;
mod network_file;
pub(crate) mod patches;
mod text;
pub(crate) mod tower;
mod vision;

pub(crate) use asking::Asking;
pub(crate) use config::{
    Activation, End, TextConfig, TowerConfig, VisionConfig, known, read_config,
};
pub(crate) use network_file::NetworkFile;
pub(crate) use text::{Comparison, Fit, Projection, TextTower, Words};
pub(crate) use vision::{Pooled, VisionTower};
