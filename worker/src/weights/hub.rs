//! Models from the Hugging Face hub, through its usual cache: what `huggingface_hub` downloaded is
//! found here, and the other way around.
//!
//! Downloads resume where they broke off. A revision becomes visible in the cache only when all
//! its files are there, so a worker that dies half way leaves nothing that looks complete.

mod fetch;
mod turns;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use stoker_runtime::secret::Secret;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::{Layout, WeightsError};
use crate::config::HubConfig;

/// A download without a byte for this long is given up; what arrived is kept for the next try.
const SILENCE_LIMIT: Duration = Duration::from_mins(1);

/// How often a download that goes on is told of in the log.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Tries per file.
const TRIES: u32 = 4;

/// Before the second try; doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// What went wrong with the hub.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("{endpoint} cannot be reached and the cache holds no complete copy: {reason}")]
    Unreachable { endpoint: String, reason: String },
    #[error(
        "{endpoint} answers {status}: check the name; for a private or gated model set HF_TOKEN to \
         a token that may read it"
    )]
    NotAllowed { endpoint: String, status: u16 },
    #[error("{endpoint} knows no such repository or revision: correct the model's `source`")]
    NotFound { endpoint: String },
    #[error("{endpoint} answers {status}: try again later")]
    Status { endpoint: String, status: u16 },
    #[error("the repository has no `{file}`: it is not a model that this fleet can run")]
    FileMissing { file: String },
    #[error(
        "the repository has only pickled weights ({found}); pickle runs code when it is loaded and \
         is refused: choose a revision with safetensors"
    )]
    Pickled { found: String },
    #[error(
        "the repository has its weights in several parts, which is not supported: choose a model or \
         a revision with one model.safetensors"
    )]
    Sharded,
    #[error("the repository's `{file}` is not usable: {reason}")]
    Invalid { file: String, reason: String },
    #[error("`{file}` arrived with {got} of {expected} bytes: start again to resume")]
    Incomplete { file: String, got: u64, expected: u64 },
    #[error("cannot keep the download in the cache: {reason}")]
    Cache { reason: String },
    #[error("no home directory for the cache: set HF_HOME")]
    NoHome,
    #[error("the hub's client failed: {reason}")]
    Client { reason: String },
}

impl HubError {
    /// Whether trying again at once is of no use.
    fn is_final(&self) -> bool {
        match self {
            Self::NotAllowed { .. }
            | Self::NotFound { .. }
            | Self::FileMissing { .. }
            | Self::Pickled { .. }
            | Self::Sharded
            | Self::Invalid { .. }
            | Self::NoHome => true,
            Self::Unreachable { .. }
            | Self::Status { .. }
            | Self::Incomplete { .. }
            | Self::Cache { .. }
            | Self::Client { .. } => false,
        }
    }
}

/// A directory with a model, and the digest of its weights where the hub told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    pub directory: PathBuf,
    /// SHA-256 of `model.safetensors` in lowercase hex.
    pub sha256: Option<String>,
}

/// Downloads models.
#[derive(Debug, Clone)]
pub struct Hub {
    endpoint: String,
    cache: Cache,
    token: Option<Secret>,
    silence_limit: Duration,
    /// Per file.
    tries: u32,
}

impl Hub {
    /// # Errors
    /// When there is no place for the cache.
    pub fn new(config: &HubConfig) -> Result<Self, HubError> {
        let cache = match &config.home {
            Some(home) => Cache::new(home.join("hub")),
            None if std::env::home_dir().is_some() => Cache::default(),
            None => return Err(HubError::NoHome),
        };
        let token = config.token.clone().filter(|token| !token.expose().is_empty());
        let endpoint = config.endpoint.clone().filter(|endpoint| !endpoint.is_empty());
        Ok(Self {
            endpoint: endpoint.map_or_else(
                || DEFAULT_ENDPOINT.to_owned(),
                |e| e.trim_end_matches('/').to_owned(),
            ),
            token: token.or_else(|| cache.token().map(Secret::new)),
            cache,
            silence_limit: SILENCE_LIMIT,
            tries: TRIES,
        })
    }

    /// The model's directory, downloaded as far as it is not in the cache.
    ///
    /// The hub is asked first whether the revision has moved. When it cannot be reached, a complete
    /// copy in the cache will do.
    ///
    /// # Errors
    /// [`WeightsError::Hub`] and [`WeightsError::Stalled`].
    pub async fn get(
        &self,
        repository: &str,
        revision: &str,
        layout: Layout,
    ) -> Result<Downloaded, WeightsError> {
        let arrived = Arc::new(AtomicU64::new(0));
        let (result_tx, mut result) = oneshot::channel();
        let job = fetch::Fetch {
            hub: self.clone(),
            repository: repository.to_owned(),
            revision: revision.to_owned(),
            layout,
            arrived: Arc::clone(&arrived),
        };
        // A thread of its own, not the runtime's: the client has no timeouts, and nothing waits for
        // this thread when the process ends.
        let body = move || {
            // Nobody listens any more when the download was given up.
            let _ = result_tx.send(job.run());
        };
        let failed = |source| self.error(repository, revision, source);
        std::thread::Builder::new()
            .name("hub-download".to_owned())
            .spawn(body)
            .map_err(|error| failed(HubError::Client { reason: error.to_string() }))?;
        let (mut seen, mut since) = (0, Instant::now());
        let (mut told, mut told_at) = (0, Instant::now());
        loop {
            tokio::select! {
                result = &mut result => {
                    let panicked = || HubError::Client { reason: "it panicked".to_owned() };
                    return result.unwrap_or_else(|_| Err(panicked())).map_err(failed);
                }
                () = sleep(self.silence_limit.min(Duration::from_secs(1))) => {}
            }
            let now = arrived.load(Ordering::Relaxed);
            if now != told && told_at.elapsed() >= PROGRESS_EVERY {
                log_progress(repository, now);
                (told, told_at) = (now, Instant::now());
            }
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() >= self.silence_limit {
                let (repository, silence) = (repository.to_owned(), self.silence_limit);
                return Err(WeightsError::Stalled { repository, silence });
            }
        }
    }

    #[expect(clippy::unused_self, reason = "reads better beside its callers")]
    fn error(&self, repository: &str, revision: &str, source: HubError) -> WeightsError {
        let (repository, revision) = (repository.to_owned(), revision.to_owned());
        WeightsError::Hub { repository, revision, source }
    }

    fn api(&self) -> Result<Api, HubError> {
        ApiBuilder::from_cache(self.cache.clone())
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.as_ref().map(|token| token.expose().to_owned()))
            .with_progress(false)
            .with_user_agent("stoker-worker", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|error| self.explain(&error))
    }

    /// The client's error in our words.
    fn explain(&self, error: &ApiError) -> HubError {
        let endpoint = self.endpoint.clone();
        match error {
            ApiError::RequestError(request) => match **request {
                ureq::Error::StatusCode(status @ (401 | 403)) => {
                    HubError::NotAllowed { endpoint, status }
                }
                ureq::Error::StatusCode(404) => HubError::NotFound { endpoint },
                ureq::Error::StatusCode(status) => HubError::Status { endpoint, status },
                ref other => HubError::Unreachable { endpoint, reason: other.to_string() },
            },
            ApiError::TooManyRetries(inner) => self.explain(inner),
            ApiError::IoError(error) if is_local(error.kind()) => {
                HubError::Cache { reason: error.to_string() }
            }
            ApiError::IoError(error) => {
                HubError::Unreachable { endpoint, reason: error.to_string() }
            }
            ApiError::LockAcquisition(path) => HubError::Cache {
                reason: format!(
                    "another process holds {}: wait for its download to end",
                    path.display()
                ),
            },
            other => HubError::Client { reason: other.to_string() },
        }
    }
}

/// Whether an error is the disk's; others come from the connection that is copied from.
fn is_local(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotADirectory
            | ErrorKind::AlreadyExists
    )
}

fn repo(repository: &str, revision: &str) -> Repo {
    Repo::with_revision(repository.to_owned(), RepoType::Model, revision.to_owned())
}

fn log_started(repository: &str, commit: &str) {
    info!(repository, commit, "getting the model, as far as it is not in the cache");
}

fn log_waiting(repository: &str) {
    info!(repository, "another process downloads this model; waiting for it");
}

fn log_progress(repository: &str, bytes: u64) {
    info!(repository, megabytes = bytes / 1_000_000, "the download goes on");
}

fn log_downloaded(repository: &str, commit: &str, files: usize) {
    info!(repository, commit, files, "all files of the model are there");
}

fn log_offline(repository: &str, error: &HubError) {
    warn!(repository, %error, "using the copy in the cache");
}

#[cfg(test)]
#[path = "hub/tests.rs"]
mod tests;
