//! Models from object storage (`s3://`, `gs://`, `az://`): downloads in parts, and a cache by content that is
//! bounded.
//!
//! A [`Bucket`] is where a model is, a [`Cache`] a directory on a local disk where models are kept. Nothing in the
//! cache is visible before its digest was checked, and nothing is evicted while a process uses it. Only
//! safetensors and GGUF are taken, by what is in the file and not by its name.

mod bucket;
mod cache;
mod download;
mod error;
mod evict;
mod format;
mod parts;
mod selection;

pub use bucket::Bucket;
pub use cache::{Cache, CachedModel};
pub use error::{Refused, WeightsError};
pub use format::Format;
pub use selection::Needs;

/// Told of the progress of a download: bytes of the weights that are there, of how many.
pub type Progress = std::sync::Arc<dyn Fn(u64, u64) + Send + Sync>;
