//! One download of a model at a time on a machine: the others wait, and find it done. Blocking.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Beside the repository's blobs, where other software of the hub ignores it.
const LOCK: &str = "stoker.lock";

/// Between two looks at a download of another process.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The right to download into a repository's folder of the cache. Dropping it gives it on.
#[derive(Debug)]
pub(super) struct DownloadTurn {
    _lock: File,
}

/// Watches what another process downloads.
#[derive(Debug)]
pub(super) struct Others {
    blobs: PathBuf,
    bytes: u64,
}

impl Others {
    pub(super) fn new(repository: &Path) -> Self {
        Self { blobs: repository.join("blobs"), bytes: 0 }
    }

    /// Whether more is there than at the last look.
    pub(super) fn made_progress(&mut self) -> bool {
        let sizes = fs::read_dir(&self.blobs).into_iter().flatten().flatten();
        let bytes = sizes.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        std::mem::replace(&mut self.bytes, bytes) != bytes
    }
}

impl DownloadTurn {
    /// Waits for the turn. `waiting` is called at each look, and told whether the process that has it
    /// makes progress.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub(super) fn wait(repository: &Path, mut waiting: impl FnMut(bool)) -> io::Result<Self> {
        fs::create_dir_all(repository)?;
        let path = repository.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(path)?;
        let mut others = Others::new(repository);
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { _lock: lock }),
                Err(TryLockError::WouldBlock) => waiting(others.made_progress()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}
