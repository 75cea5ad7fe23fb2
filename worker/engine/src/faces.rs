//! Finding faces and telling whose they are alike: the networks of MTCNN and of `FaceNet`, and what stands between them.
//!
//! Both are as facenet-pytorch has them, number by number. What is here knows images and boxes, no files and no jobs.

mod area;
mod boxes;
mod config;
mod detector;
mod layers;
mod nets;
mod recognizer;

pub(crate) use area::Region;
pub(crate) use boxes::{Candidate, cut_out};
pub(crate) use config::{FacesConfig, RecognizerConfig};
pub(crate) use detector::{AtOnce, Detector};
pub(crate) use recognizer::Recognizer;
