//! Models on a local disk, by content: what is there was checked, and what is in use stays.
//!
//! ```text
//! blobs/SHA256          contents, each once
//! models/KEY/...        a model's files: hard links to contents
//! models/KEY.lock       held shared by each process that uses the model; its time says when it was last asked for
//! sources/KEY           which model a source had last, for when the source is away
//! partial/SHA256        a download, as long as it will be, with the list of its parts beside it
//! partial/SHA256.model  a model that is put together
//! partial/SHA256.strange what came instead of these weights
//! partial/KEY.gone      a model that leaves
//! turns/SHA256          held by the process that downloads these weights
//! lock                  held, for moments, to change what is there
//! ```

mod disk;
mod lock;
mod remains;
mod room;
mod strange;
mod turn;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::Progress;
use crate::bucket::Bucket;
use crate::download::{self, Came, download};
use crate::error::{Refused, WeightsError};
use crate::selection::{Needs, Selection};
pub(crate) use disk::remove_file;
use disk::{Disk, NewModel, Prepared};
use lock::Lock;
use strange::Strange;
pub(crate) use turn::Turn;

/// Between two looks at a download of another process.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A bounded directory of models. Processes on one machine may share it.
#[derive(Debug, Clone)]
pub struct Cache {
    disk: Arc<Disk>,
}

/// A model that stays in the cache as long as this value lives.
#[derive(Debug, Clone)]
pub struct CachedModel {
    /// Where its files are.
    pub directory: PathBuf,
    _in_use: Arc<Lock>,
}

impl Cache {
    /// The cache in `directory`, which is made if it is missing, of at most `limit` bytes. Blocking.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn open(directory: PathBuf, limit: u64) -> Result<Self, WeightsError> {
        Ok(Self { disk: Arc::new(Disk::open(directory, limit)?) })
    }

    /// A model with these weights from a bucket, downloaded as far as it is not here. When the bucket cannot be
    /// read, a copy that is here will do, whatever `needs` says. Dropping the future gives up; what has arrived stays for the next try.
    ///
    /// # Errors
    /// When it is neither there nor here, is refused, has another digest, or has no room.
    pub async fn get(
        &self,
        bucket: &Bucket,
        sha256: &str,
        needs: Needs,
        progress: &Progress,
    ) -> Result<CachedModel, WeightsError> {
        let source = key(&[bucket.url(), sha256]);
        let files = match bucket.list().await {
            Ok(files) => files,
            Err(error) => {
                let (disk, url) = (Arc::clone(&self.disk), bucket.url().to_owned());
                let Some(model) = blocking(move || disk.last_of(&source)).await? else {
                    return Err(unlisted(url, error));
                };
                warn!(url, %error, "using the copy in the cache");
                return Ok(model);
            }
        };
        let refused = |source| WeightsError::Refused { url: bucket.url().to_owned(), source };
        let selection = Selection::of(files, needs).map_err(refused)?;
        let key = key_of(bucket, sha256, &selection);
        if let Some(found) = self.find(&key, &source).await? {
            return Ok(found);
        }
        let turn = self.turn(bucket, sha256).await?;
        // Whoever had the turn before may have fetched it.
        if let Some(found) = self.find(&key, &source).await? {
            return Ok(found);
        }
        let wanted = Wanted { bucket, sha256, selection: &selection, progress, turn: &turn };
        self.fetch(&wanted, key, source).await
    }

    async fn find(&self, key: &str, source: &str) -> Result<Option<CachedModel>, WeightsError> {
        let (disk, key, source) = (Arc::clone(&self.disk), key.to_owned(), source.to_owned());
        blocking(move || disk.find(&key, &source)).await
    }

    /// Waits for the right to download these weights.
    async fn turn(&self, bucket: &Bucket, sha256: &str) -> Result<Turn, WeightsError> {
        let mut told = false;
        loop {
            let (disk, sha256) = (Arc::clone(&self.disk), sha256.to_owned());
            if let Some(turn) = blocking(move || disk.try_turn(&sha256)).await? {
                return Ok(turn);
            }
            if !told {
                info!(url = bucket.url(), "another process downloads this model; waiting for it");
                told = true;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn fetch(
        &self,
        wanted: &Wanted<'_>,
        key: String,
        source: String,
    ) -> Result<CachedModel, WeightsError> {
        let Wanted { bucket, sha256, selection, turn, .. } = *wanted;
        self.refuse_strange(wanted).await?;
        // Before others leave for it, and before anything else of it comes.
        download::check_format(bucket, &selection.weights).await?;
        let weights = selection.weights.clone();
        let (disk, digest, all) = (Arc::clone(&self.disk), sha256.to_owned(), selection.bytes());
        let prepared = turn.run(move || disk.prepare(&digest, &weights, all)).await?;
        info!(url = bucket.url(), bytes = all, "getting the model, as far as it is not here");
        let mut descriptions = Vec::new();
        for file in &selection.descriptions {
            let bytes = download::read(bucket, file, 0..file.size).await?;
            descriptions.push((file.name.clone(), bytes));
        }
        match prepared {
            Prepared::Here => {}
            Prepared::Missing => self.fetch_weights(wanted).await?,
        }
        let weights = (selection.weights.name.clone(), sha256.to_owned());
        let new = NewModel { key, source, descriptions, weights };
        let disk = Arc::clone(&self.disk);
        let model = turn.run(move || disk.add(&new)).await?;
        info!(url = bucket.url(), "all files of the model are here");
        Ok(model)
    }

    /// Downloads the weights and checks their digest.
    async fn fetch_weights(&self, wanted: &Wanted<'_>) -> Result<(), WeightsError> {
        let Wanted { bucket, sha256, selection, progress, turn } = *wanted;
        let path = self.disk.partial(sha256);
        loop {
            let came = download(bucket, &selection.weights, &path, turn, progress).await?;
            let found = download::sha256_of(&path, turn).await?;
            if found == sha256 {
                return Ok(());
            }
            // To go on with it would not mend it.
            let gone = path.clone();
            turn.run(move || download::discard(&gone)).await?;
            if came == Came::Before {
                // The machine may have failed when its list of parts had reached the disk and a part had not.
                warn!(url = bucket.url(), "what had arrived before was damaged; beginning again");
                continue;
            }
            if let Some(file) = Strange::file(bucket.url(), &selection.weights) {
                let (disk, expected) = (Arc::clone(&self.disk), sha256.to_owned());
                let note = found.clone();
                turn.run(move || disk.note_strange(&expected, file, note)).await?;
            }
            return Err(digest_error(bucket, sha256, found));
        }
    }

    /// Refuses weights that came before and were others.
    async fn refuse_strange(&self, wanted: &Wanted<'_>) -> Result<(), WeightsError> {
        let Wanted { bucket, sha256, selection, turn, .. } = *wanted;
        let Some(file) = Strange::file(bucket.url(), &selection.weights) else { return Ok(()) };
        let (disk, expected) = (Arc::clone(&self.disk), sha256.to_owned());
        let known = turn.run(move || Ok(disk.known_strange(&expected, &file))).await?;
        let Some(found) = known else { return Ok(()) };
        warn!(url = bucket.url(), "these weights came twice before, and were not written since");
        Err(digest_error(bucket, sha256, found))
    }
}

/// What a download is of.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    bucket: &'a Bucket,
    sha256: &'a str,
    selection: &'a Selection,
    progress: &'a Progress,
    turn: &'a Turn,
}

/// Names a model by everything that decides over its files.
fn key_of(bucket: &Bucket, sha256: &str, selection: &Selection) -> String {
    let mut words =
        vec![bucket.url().to_owned(), sha256.to_owned(), selection.weights.name.clone()];
    for file in &selection.descriptions {
        let tag = file.tag.clone().unwrap_or_default();
        words.extend([file.name.clone(), file.size.to_string(), tag]);
    }
    key(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn key(words: &[&str]) -> String {
    let mut hash = Sha256::new();
    for word in words {
        hash.update(u64::try_from(word.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(word.as_bytes());
    }
    hex::encode(hash.finalize())
}

fn digest_error(bucket: &Bucket, expected: &str, found: String) -> WeightsError {
    WeightsError::Digest { url: bucket.url().to_owned(), found, expected: expected.to_owned() }
}

/// Why a folder could not be listed.
fn unlisted(url: String, source: object_store::Error) -> WeightsError {
    match source {
        // One such key hides all others.
        object_store::Error::InvalidPath { source } => {
            WeightsError::Refused { url, source: Refused::Key { reason: source.to_string() } }
        }
        source => WeightsError::Unreachable { url, source },
    }
}

/// Runs what waits for the disk on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WeightsError> + Send + 'static,
) -> Result<T, WeightsError> {
    match spawn_blocking(work).await.map_err(JoinError::try_into_panic) {
        Ok(result) => result,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // It was not begun, because the runtime ends; so does whoever waits for it.
        Err(Err(_)) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
