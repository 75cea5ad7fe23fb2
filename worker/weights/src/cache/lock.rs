//! Locks between processes: a file that is held. They end with the process that holds them.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use crate::error::WeightsError;

/// A file that is held, until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Waits until nobody else holds it. Blocking.
    pub(super) fn exclusive(path: &Path) -> Result<Self, WeightsError> {
        let file = open(path)?;
        file.lock().map_err(WeightsError::io("lock", path))?;
        Ok(Self { file })
    }

    /// Holds it, unless anybody else does.
    pub(super) fn try_exclusive(path: &Path) -> Result<Option<Self>, WeightsError> {
        let file = open(path)?;
        let is_ours = try_lock(&file, path)?;
        Ok(is_ours.then_some(Self { file }))
    }

    /// Holds it together with others that share it. Blocking, while somebody has it to himself.
    pub(super) fn shared(path: &Path) -> Result<Self, WeightsError> {
        let file = open(path)?;
        file.lock_shared().map_err(WeightsError::io("lock", path))?;
        Ok(Self { file })
    }

    /// Whether anybody holds it. A file that is not there is held by nobody.
    pub(super) fn is_held(path: &Path) -> Result<bool, WeightsError> {
        match File::options().write(true).open(path) {
            Ok(file) => Ok(!try_lock(&file, path)?),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(WeightsError::io("open", path)(error)),
        }
    }

    /// The time of the file becomes now.
    pub(super) fn touch(&self) {
        // It only orders what is evicted.
        let _ = self.file.set_modified(std::time::SystemTime::now());
    }
}

fn try_lock(file: &File, path: &Path) -> Result<bool, WeightsError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => Err(WeightsError::io("lock", path)(source)),
    }
}

fn open(path: &Path) -> Result<File, WeightsError> {
    let options = File::options().create(true).truncate(false).write(true).open(path);
    options.map_err(WeightsError::io("create", path))
}
