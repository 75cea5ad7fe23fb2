//! The engine process: candle models behind the `Engine` trait.
//!
//! One process serves one model. It is the only place that knows candle, tokenizers and model
//! files; the worker starts it and talks to it through `stoker-engine-api`.

mod bert;
mod config;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod embedder;
mod error;
mod json;
mod kernels;
mod ops;
mod pooling;
mod precision;
mod texts;
mod tokens;
mod weights;

pub use config::{ModelConfig, Pooling};
pub use device::EngineDevice;
pub use embedder::{LoadOptions, TextEmbedder};
pub use error::LoadError;
pub use precision::{Precision, UnknownPrecision};
