//! Models from object storage, through the cache on a local disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stoker_weights::{Bucket, Cache, CachedModel, Progress};
use tracing::info;

use super::{Layout, WeightsError, check_directory};
use crate::blocking::blocking;
use crate::config::WeightsConfig;

/// How often a download that goes on is told of in the log.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// The model in this folder, which stays in the cache while the value lives.
///
/// # Errors
/// When it can be had neither from the bucket nor from the cache, or is no model for an engine.
pub(crate) async fn get(
    config: &WeightsConfig,
    url: &str,
    sha256: &str,
    layout: Layout,
) -> Result<CachedModel, WeightsError> {
    let folder = config.folder().ok_or(WeightsError::NoCache)?;
    let limit = config.limit_bytes();
    let cache = blocking(move || Cache::open(folder, limit)).await?;
    // A variable that is not UTF-8 is none of a cloud's.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let bucket = Bucket::open(url, environment)?;
    let model = cache.get(&bucket, sha256, layout.needs(), &progress(url.to_owned())).await?;
    let directory = model.directory.clone();
    // A copy that is used because its bucket is away was not asked for what this task needs.
    blocking(move || check_directory(&directory, layout)).await?;
    Ok(model)
}

fn progress(url: String) -> Progress {
    let told_at = Mutex::new(Instant::now());
    Arc::new(move |bytes, of| {
        let mut told_at = told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.elapsed() >= PROGRESS_EVERY {
            *told_at = Instant::now();
            let (megabytes, of_megabytes) = (bytes / 1_000_000, of / 1_000_000);
            info!(url, megabytes, of_megabytes, "the download goes on");
        }
    })
}
