//! What nobody has any more: of models that left, of processes that ended in the middle, of locks. Blocking; whoever
//! calls holds the cache's lock.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::disk::{BUILDING, Disk, GONE, remove_file, remove_folder, sync};
use super::lock::Lock;
use super::room::{entries, file_name};
use super::strange::{STRANGE, is_old};
use crate::error::WeightsError;

impl Disk {
    /// Removes a model that nobody uses. It is gone for all who look before its first file is, and stays gone when this
    /// does not come to its end.
    pub(super) fn evict(&self, key: &str) -> Result<(), WeightsError> {
        let (model, gone) = (self.model(key), self.partial(key).with_extension(GONE));
        fs::rename(&model, &gone).map_err(WeightsError::io("remove", &model))?;
        sync(&self.root.join("models"))?;
        remove_folder(&gone)?;
        // It is taken under the cache's lock only, so nobody takes it now.
        remove_file(&self.use_lock(key))
    }

    /// Removes what processes left that ended in the middle.
    pub(super) fn remove_remains(&self) -> Result<(), WeightsError> {
        for path in entries(&self.root.join("partial"))? {
            let Some(name) = file_name(&path) else { continue };
            let (sha256, kind) = name.split_once('.').unwrap_or((&name, ""));
            match kind {
                BUILDING if !Lock::is_held(&self.turn(sha256))? => remove_folder(&path)?,
                // A list without its download is of one that has its name, or was removed.
                "parts" if !path.with_extension("").exists() => remove_file(&path)?,
                // Downloads go on; their lists are theirs.
                BUILDING | "" | "parts" => {}
                STRANGE if !is_old(&path) => {}
                GONE => remove_folder(&path)?,
                // Written under the lock that is held.
                _ => remove_file(&path)?,
            }
        }
        self.remove_locks()?;
        self.remove_sources()
    }

    /// Removes contents that no model has.
    pub(super) fn remove_orphans(&self) -> Result<(), WeightsError> {
        for path in entries(&self.root.join("blobs"))? {
            if fs::metadata(&path).is_ok_and(|file| file.nlink() == 1) {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Locks of models that are not here, and turns that nobody has: both are taken under the cache's lock only.
    fn remove_locks(&self) -> Result<(), WeightsError> {
        for path in entries(&self.root.join("models"))? {
            let is_lock = path.extension().is_some_and(|extension| extension == "lock");
            if is_lock && !path.with_extension("").is_dir() && !Lock::is_held(&path)? {
                remove_file(&path)?;
            }
        }
        for path in entries(&self.root.join("turns"))? {
            if !Lock::is_held(&path)? {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// What sources had whose models are not here.
    fn remove_sources(&self) -> Result<(), WeightsError> {
        for path in entries(&self.root.join("sources"))? {
            let Some(source) = file_name(&path) else { continue };
            if self.remembered(&source).is_none() {
                remove_file(&path)?;
            }
        }
        Ok(())
    }
}
