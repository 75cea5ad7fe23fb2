//! Files from a bucket: small ones into memory, weights in parts into a file that survives the process.

mod partial;

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;
use tracing::debug;

use crate::Progress;
use crate::bucket::Bucket;
use crate::cache::{Turn, remove_file};
use crate::error::WeightsError;
use crate::format::Format;
use crate::parts::Parts;
use crate::selection::Listed;
use partial::Partial;

/// Requests under way at once. One gives some 80 MB/s at the large stores.
const AT_ONCE: usize = 16;

/// Tries for each part, besides the store's own.
const TRIES: u32 = 4;

/// Before the second try; doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Bytes that are hashed before it is looked whether anybody still waits for the digest.
const HASHED_AT_ONCE: u64 = 256 << 20;

/// How the bytes of a finished download came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// All by this call.
    Now,
    /// Some by an earlier one, which may have ended with its machine.
    Before,
}

/// Looks at a file's first bytes, which are all that comes of it.
///
/// # Errors
/// When it is in no format that is taken, or does not come.
pub(crate) async fn check_format(bucket: &Bucket, file: &Listed) -> Result<(), WeightsError> {
    let head = read(bucket, file, 0..file.size.min(Format::HEAD)).await?;
    Format::of(&file.name, &head, file.size)
        .map(|_| ())
        .map_err(|source| WeightsError::Refused { url: bucket.url().to_owned(), source })
}

/// Downloads `file` to `path`, going on where an earlier try broke off. The content is not looked at.
///
/// # Errors
/// When a part does not come. What has arrived stays for the next try.
pub(crate) async fn download(
    bucket: &Bucket,
    file: &Listed,
    path: &Path,
    turn: &Turn,
    progress: &Progress,
) -> Result<Came, WeightsError> {
    let (opened, of) = (path.to_owned(), file.clone());
    let (partial, done) = turn.run(move || Partial::open(&opened, &of)).await?;
    let partial = Arc::new(partial);
    let mut parts = Parts::new(file.size, done);
    let came = if parts.bytes() == 0 { Came::Now } else { Came::Before };
    progress(parts.bytes(), file.size);
    let requests = stream::iter(parts.missing()).map(|(part, range)| {
        let partial = Arc::clone(&partial);
        async move {
            let start = range.start;
            let bytes = read(bucket, file, range).await?;
            turn.run(move || partial.write(part, start, &bytes)).await?;
            Ok::<u64, WeightsError>(part)
        }
    });
    let mut arriving = requests.buffer_unordered(AT_ONCE);
    while let Some(part) = arriving.try_next().await? {
        parts.arrived(part);
        progress(parts.bytes(), file.size);
    }
    Ok(came)
}

/// Reads a range of a file that is still the one that was listed, with some tries.
///
/// # Errors
/// [`WeightsError::Unreachable`] with the last try's reason.
pub(crate) async fn read(
    bucket: &Bucket,
    file: &Listed,
    range: Range<u64>,
) -> Result<Bytes, WeightsError> {
    let expected = range.end - range.start;
    if expected == 0 {
        return Ok(Bytes::new());
    }
    let mut tries = 1;
    loop {
        let error = match bucket.read_range(file, range.clone()).await {
            Ok(bytes) if u64::try_from(bytes.len()).is_ok_and(|got| got == expected) => {
                return Ok(bytes);
            }
            Ok(bytes) => object_store::Error::Generic {
                store: "download",
                source: format!("{} of {expected} bytes came", bytes.len()).into(),
            },
            Err(error) => error,
        };
        if tries >= TRIES || is_final(&error) {
            let url = bucket.url().to_owned();
            return Err(WeightsError::Unreachable { url, source: error });
        }
        debug!(%error, file = file.name, tries, "a part did not come; trying again");
        sleep(FIRST_PAUSE * 2_u32.pow(tries - 1)).await;
        tries += 1;
    }
}

/// Whether another try is of no use: the file is another one, or not there, or not ours to read.
fn is_final(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    matches!(
        error,
        E::NotFound { .. }
            | E::Precondition { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
    )
}

/// SHA-256 of a file in lowercase hex, which is on the disk when this returns. Stops soon when nobody waits any more.
///
/// # Errors
/// When it cannot be read or does not get to the disk.
pub(crate) async fn sha256_of(path: &Path, turn: &Turn) -> Result<String, WeightsError> {
    let (mut hash, mut file) = (Sha256::new(), None);
    loop {
        let path = path.to_owned();
        let (more, opened, so_far) = turn
            .run(move || {
                let mut file = match file {
                    Some(file) => file,
                    None => File::open(&path).map_err(WeightsError::io("read", &path))?,
                };
                let more =
                    hash_some(&mut file, &mut hash).map_err(WeightsError::io("read", &path))?;
                if !more {
                    // Before its name says that it is whole.
                    file.sync_all().map_err(WeightsError::io("keep", &path))?;
                }
                Ok((more, file, hash))
            })
            .await?;
        if !more {
            return Ok(hex::encode(so_far.finalize()));
        }
        (hash, file) = (so_far, Some(opened));
    }
}

/// Whether there is more.
fn hash_some(file: &mut File, hash: &mut Sha256) -> std::io::Result<bool> {
    let mut buffer = vec![0; 1 << 20];
    let mut left = HASHED_AT_ONCE;
    while left > 0 {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(false);
        }
        hash.update(&buffer[..count]);
        left = left.saturating_sub(u64::try_from(count).unwrap_or(left));
    }
    Ok(true)
}

/// Removes a file that was downloaded, or a part of one. Blocking.
///
/// # Errors
/// When it stays: what goes on with it would get nowhere.
pub(crate) fn discard(path: &Path) -> Result<(), WeightsError> {
    // The list first: without it, what is left is nothing.
    forget_parts(path)?;
    remove_file(path)
}

/// The file is complete: forgets how it came. Blocking.
///
/// # Errors
/// When the list stays.
pub(crate) fn forget_parts(path: &Path) -> Result<(), WeightsError> {
    remove_file(&partial::list_path(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_removed_is_an_error_and_what_is_gone_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        discard(&path).unwrap();
        // Not even the root user removes a folder as a file.
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(discard(&path), Err(WeightsError::Io { .. })));
        std::fs::remove_dir(&path).unwrap();
        std::fs::create_dir(partial::list_path(&path)).unwrap();
        assert!(matches!(discard(&path), Err(WeightsError::Io { .. })));
    }
}
