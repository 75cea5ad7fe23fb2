//! CLIP: a network of images and one of texts, whose vectors lie close to each other where they fit.

mod config;
mod text;
mod tower;
mod vision;

pub(crate) use config::{ClipConfig, End};
pub(crate) use text::TextTower;
pub(crate) use vision::VisionTower;
