//! CLIP: a network of images and one of texts, whose vectors lie close to each other where they fit.

mod config;
mod network_file;
pub(crate) mod patches;
mod text;
pub(crate) mod tower;
mod vision;

pub(crate) use config::{Activation, ClipConfig, End, TowerConfig, VisionConfig, known};
pub(crate) use network_file::NetworkFile;
pub(crate) use text::TextTower;
pub(crate) use vision::VisionTower;
