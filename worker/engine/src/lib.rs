//! The engine process: candle models behind the `Engine` trait.
//!
//! One process serves one model. It is the only place that knows candle, tokenizers and model
//! files; the worker starts it and talks to it through `stoker-engine-api`.

mod audio;
mod blip;
mod captioner;
mod chat;
mod clip;
mod compare;
mod config;
#[cfg(feature = "cuda")]
mod cuda;
mod decoder;
mod device;
mod dino;
mod encoder;
mod error;
mod face_finder;
mod faces;
pub mod generation;
mod generator;
mod gguf;
mod head;
mod image_encoder;
mod images;
mod json;
mod kernels;
mod loading;
mod ops;
mod options;
mod pooling;
mod precision;
mod siglip;
mod source;
mod text_encoder;
mod texts;
mod tokens;
mod towers;
mod transcriber;
mod vocabulary;
mod weights;
mod whisper;

pub use audio::{LogMel, MelBank, RecordingError, Sound};
pub use captioner::{Captioner, CaptionerOptions, PreparedCaption};
pub use config::{
    DefaultPrompt, EncoderTask, HeadConfig, ModelConfig, Pooling, UnknownDefaultPrompt,
};
pub use device::EngineDevice;
pub use encoder::{EncoderConfig, Family};
pub use error::LoadError;
pub use face_finder::{FaceFinder, FaceOptions, FaceTask, PreparedFaces};
pub use generator::{Generator, GeneratorOptions, PreparedPrompt};
pub use image_encoder::{ImageEncoder, ImageOptions, ImageTask, PreparedImage};
pub use options::ModelOptions;
pub use precision::{Precision, UnknownPrecision};
pub use text_encoder::{TextEncoder, TextOptions};
pub use transcriber::{PreparedRecording, Transcriber, Window};
