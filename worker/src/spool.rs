//! Results that could not be delivered, as files: one per attempt, sent at the next chance.
//!
//! A file holds results and the attempt's secret, so it is readable by its owner only. A directory
//! belongs to one worker at a time: two would deliver, and remove, each other's files. Blocking.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stoker_core::ids::{Attempt, JobId, LeaseToken};
use stoker_proto::convert::{decode_part, encode_part};
use stoker_proto::v1::ResultPart;
use stoker_runtime::fs::{FsError, write_atomically};
use tracing::{info, warn};

use crate::attempt::Fence;
use crate::metrics;

const EXTENSION: &str = "result";
const DAMAGED: &str = "damaged";
/// Locked as long as a worker uses the directory; stays there unlocked afterwards.
const LOCK: &str = "lock";
const VERSION: u32 = 2;

/// The spool could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error(
        "cannot use the spool directory {}: choose a directory that this user can write with --spool",
        path.display()
    )]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "another worker uses the spool directory {}: stop that one, or give each worker a directory \
         of its own with --spool",
        path.display()
    )]
    InUse { path: PathBuf },
    #[error("cannot keep a result in the spool")]
    Write(#[from] FsError),
    #[error("{} is gone; whoever removed it removed a result", path.display())]
    Gone { path: PathBuf },
    #[error("cannot read {}; it stays where it is for the next start", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is damaged; it was set aside", path.display())]
    Damaged { path: PathBuf },
}

/// A directory of undelivered results. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Spool {
    directory: PathBuf,
    /// Held as long as any clone lives.
    _lock: Arc<File>,
}

/// A result that waits for delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Spooled {
    pub fence: Fence,
    pub parts: Vec<ResultPart>,
    pub busy: Duration,
}

impl Spool {
    /// Opens the directory, making it if it is not there, and locks it against other workers.
    ///
    /// # Errors
    /// When it cannot be written, or another worker uses it.
    pub fn open(directory: &Path) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Directory { path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        tempfile_probe(directory).map_err(failed)?;
        let lock = lock(directory).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => SpoolError::InUse { path: directory.to_owned() },
            _ => failed(error),
        })?;
        Ok(Self { directory: directory.to_owned(), _lock: Arc::new(lock) })
    }

    /// Keeps a result; it survives a power cut from here on.
    ///
    /// # Errors
    /// When the disk is full or cannot be written.
    pub fn write(&self, spooled: &Spooled) -> Result<PathBuf, SpoolError> {
        let name = format!("{}-{}.{EXTENSION}", spooled.fence.job, spooled.fence.attempt);
        let path = self.directory.join(name);
        let bytes = postcard::to_allocvec(&Record::of(spooled))
            .expect("a record of plain values can be encoded");
        write_atomically(&path, &bytes)?;
        metrics::spooled();
        info!(job = %spooled.fence.job, attempt = %spooled.fence.attempt, "result kept in the spool");
        Ok(path)
    }

    /// What waits, by name.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<PathBuf>, SpoolError> {
        let failed = |source| SpoolError::Directory { path: self.directory.clone(), source };
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Reads one result back. A file that makes no sense is set aside under another name.
    ///
    /// # Errors
    /// When it is gone, cannot be read, or is damaged.
    pub fn read(&self, path: &Path) -> Result<Spooled, SpoolError> {
        let bytes = fs::read(path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => SpoolError::Gone { path: path.to_owned() },
            _ => SpoolError::Read { path: path.to_owned(), source },
        })?;
        let record = postcard::take_from_bytes::<Record>(&bytes).ok();
        let whole = record.and_then(|(record, rest)| record.spooled().filter(|_| rest.is_empty()));
        whole.ok_or_else(|| {
            if let Err(error) = fs::rename(path, path.with_extension(DAMAGED)) {
                warn!(path = %path.display(), %error, "damaged result not set aside");
            }
            SpoolError::Damaged { path: path.to_owned() }
        })
    }

    /// Removes a result that was delivered.
    pub fn remove(&self, path: &Path) {
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // It would be delivered again, which the coordinator recognizes.
            Err(error) => warn!(path = %path.display(), %error, "delivered result not removed"),
        }
    }
}

fn lock(directory: &Path) -> std::io::Result<File> {
    let file =
        File::options().create(true).truncate(false).write(true).open(directory.join(LOCK))?;
    file.try_lock()?;
    Ok(file)
}

/// Fails now rather than when a result has to be kept.
fn tempfile_probe(directory: &Path) -> std::io::Result<()> {
    let probe = directory.join(format!(".probe-{}", std::process::id()));
    fs::write(&probe, b"")?;
    fs::remove_file(probe)
}

/// The file's content. Fields are only ever added together with a new version.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    job: JobId,
    attempt: u32,
    token: [u8; 16],
    busy: Duration,
    /// As they are sent, so that a kind of result that comes later is nothing new here.
    parts: Vec<serde_bytes::ByteBuf>,
}

impl Record {
    fn of(spooled: &Spooled) -> Self {
        Self {
            version: VERSION,
            job: spooled.fence.job,
            attempt: spooled.fence.attempt.number(),
            token: *spooled.fence.token.as_bytes(),
            busy: spooled.busy,
            parts: spooled.parts.iter().map(|part| encode_part(part).into()).collect(),
        }
    }

    fn spooled(self) -> Option<Spooled> {
        let decoded = |part: serde_bytes::ByteBuf| decode_part(part.into_vec().into()).ok();
        let attempt = Attempt::new(self.attempt).filter(|_| self.version == VERSION)?;
        Some(Spooled {
            fence: Fence { job: self.job, attempt, token: LeaseToken::from_bytes(self.token) },
            parts: self.parts.into_iter().map(decoded).collect::<Option<_>>()?,
            busy: self.busy,
        })
    }
}

#[cfg(test)]
mod tests {
    use stoker_proto::v1::{Embeddings, Texts, result_part::Output};

    use super::*;

    fn spooled() -> Spooled {
        let embeddings = Embeddings {
            dimensions: 2,
            vectors: bytes::Bytes::from_static(&[0, 1, 2, 3, 4, 5, 6, 7]),
        };
        let texts = Texts { texts: vec!["a".to_owned(), String::new()] };
        Spooled {
            fence: Fence {
                job: JobId::from_bytes([7; 16]),
                attempt: Attempt::FIRST,
                token: LeaseToken::from_bytes([9; 16]),
            },
            parts: vec![
                ResultPart {
                    first_item: 3,
                    items: 1,
                    output: Some(Output::Embeddings(embeddings)),
                },
                ResultPart { first_item: 4, items: 2, output: Some(Output::Texts(texts)) },
            ],
            busy: Duration::from_millis(5),
        }
    }

    #[test]
    fn a_result_survives_and_is_removed_once_delivered() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(&directory.path().join("new")).unwrap();
        let path = spool.write(&spooled()).unwrap();
        assert_eq!(spool.list().unwrap(), std::slice::from_ref(&path));
        assert_eq!(spool.read(&path).unwrap(), spooled());
        spool.remove(&path);
        spool.remove(&path);
        assert!(spool.list().unwrap().is_empty());
    }

    #[test]
    fn only_the_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = Spool::open(directory.path()).unwrap().write(&spooled()).unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o077, 0);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        let path = spool.write(&spooled()).unwrap();
        let bytes = fs::read(&path).unwrap();
        for damaged in [&bytes[..bytes.len() - 1], &[&bytes[..], b"x"].concat(), b""] {
            fs::write(&path, damaged).unwrap();
            let error = spool.read(&path).unwrap_err();
            assert!(matches!(error, SpoolError::Damaged { .. }), "{error}");
            assert!(spool.list().unwrap().is_empty());
        }
    }

    #[test]
    fn a_file_that_is_gone_is_told_from_one_that_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        let gone = spool.read(&directory.path().join("gone.result")).unwrap_err();
        assert!(matches!(gone, SpoolError::Gone { .. }), "{gone}");
        // Unlike a file without permissions, a folder cannot be read by any user.
        let unreadable = directory.path().join("folder.result");
        fs::create_dir(&unreadable).unwrap();
        let error = spool.read(&unreadable).unwrap_err();
        assert!(matches!(error, SpoolError::Read { .. }), "{error}");
        assert!(unreadable.exists(), "it may be readable at the next start");
    }

    #[test]
    fn a_second_worker_is_refused_until_the_first_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let first = Spool::open(directory.path()).unwrap();
        let clone = first.clone();
        drop(first);
        let error = Spool::open(directory.path()).unwrap_err();
        assert!(matches!(error, SpoolError::InUse { .. }), "{error}");
        assert!(error.to_string().contains("--spool"), "{error}");
        drop(clone);
        Spool::open(directory.path()).unwrap();
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = Spool::open(&file.join("spool")).unwrap_err().to_string();
        assert!(error.contains("file/spool") && error.contains("--spool"), "{error}");
    }
}
