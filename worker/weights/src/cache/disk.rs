//! The files of the cache. Blocking.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::CachedModel;
use super::lock::Lock;
use super::room::entries;
use super::turn::Turn;
use crate::download;
use crate::error::WeightsError;
use crate::selection::Listed;

/// Ends the name of a model that is put together.
pub(super) const BUILDING: &str = "model";

/// Ends the name of a model that leaves.
pub(super) const GONE: &str = "gone";

/// Ends the name of a content that is being written.
const NEW: &str = "new";

/// A directory with a cache.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) root: PathBuf,
    pub(super) limit: u64,
}

/// Where weights are for which there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepared {
    /// In the cache, and they stay there as long as the turn is held.
    Here,
    /// They have to come; their file is there, as long as they will be.
    Missing,
}

/// A model whose weights have arrived.
#[derive(Debug)]
pub(super) struct NewModel {
    pub(super) key: String,
    pub(super) source: String,
    pub(super) descriptions: Vec<(String, Bytes)>,
    /// Name and digest.
    pub(super) weights: (String, String),
}

impl Disk {
    pub(super) fn open(root: PathBuf, limit: u64) -> Result<Self, WeightsError> {
        for folder in ["blobs", "models", "sources", "partial", "turns"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(WeightsError::io("create", path))?;
        }
        // Engines run elsewhere: they need whole paths.
        let root = fs::canonicalize(&root).map_err(WeightsError::io("find", root))?;
        Ok(Self { root, limit })
    }

    /// The right to download these weights, if nobody has it.
    pub(super) fn try_turn(&self, sha256: &str) -> Result<Option<Turn>, WeightsError> {
        // Nobody removes the file of a turn between the two steps of taking it.
        let _lock = self.lock()?;
        Ok(Lock::try_exclusive(&self.turn(sha256))?.map(Turn::new))
    }

    /// A model that is here, held.
    pub(super) fn find(
        &self,
        key: &str,
        source: &str,
    ) -> Result<Option<CachedModel>, WeightsError> {
        let _lock = self.lock()?;
        if !self.model(key).is_dir() {
            return Ok(None);
        }
        self.remember(source, key)?;
        self.hold(key).map(Some)
    }

    /// What a source had last.
    pub(super) fn last_of(&self, source: &str) -> Result<Option<CachedModel>, WeightsError> {
        let _lock = self.lock()?;
        self.remembered(source).map(|key| self.hold(&key)).transpose()
    }

    /// The model that a source had last, if it is here.
    pub(super) fn remembered(&self, source: &str) -> Option<String> {
        let key = fs::read_to_string(self.root.join("sources").join(source)).ok()?;
        // Whatever else stands in it after the machine failed is no name.
        let is_key = key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_key && self.model(&key).is_dir()).then_some(key)
    }

    /// Makes room for a model of `all` bytes, weights included. Whoever calls has the turn of the weights.
    pub(super) fn prepare(
        &self,
        sha256: &str,
        weights: &Listed,
        all: u64,
    ) -> Result<Prepared, WeightsError> {
        let _lock = self.lock()?;
        let building = self.building(sha256);
        remove_folder(&building)?;
        fs::create_dir(&building).map_err(WeightsError::io("create", &building))?;
        let blob = self.blob(sha256);
        if blob.is_file() {
            // From now on it is no orphan, whatever is evicted.
            link(&blob, &building.join(&weights.name))?;
            self.make_room(all.saturating_sub(weights.size), sha256)?;
            return Ok(Prepared::Here);
        }
        self.make_room(all, sha256)?;
        let partial = self.partial(sha256);
        // All of it, so that others leave it the room.
        let file = File::options().create(true).truncate(false).write(true).open(&partial);
        file.and_then(|file| file.set_len(weights.size))
            .map_err(WeightsError::io("make room for", &partial))?;
        Ok(Prepared::Missing)
    }

    /// Puts a model into the cache, all of it or nothing, and holds it. Its weights were prepared, and have arrived.
    pub(super) fn add(&self, new: &NewModel) -> Result<CachedModel, WeightsError> {
        let _lock = self.lock()?;
        let (weights_name, sha256) = &new.weights;
        let building = self.building(sha256);
        if !building.join(weights_name).is_file() {
            let (from, to) = (self.partial(sha256), self.blob(sha256));
            // Until it has its name, it is a download that can go on: its list stays, and it can be written.
            fs::rename(&from, &to).map_err(WeightsError::io("keep", &to))?;
            download::forget_parts(&from)?;
            link(&to, &building.join(weights_name))?;
        }
        for (name, bytes) in &new.descriptions {
            link(&self.keep(bytes)?, &building.join(name))?;
        }
        // A model has all its files when it has its name, whatever the machine does.
        sync(&self.root.join("blobs"))?;
        folders_of(&building)?.iter().try_for_each(|folder| sync(folder))?;
        let model = self.model(&new.key);
        fs::rename(&building, &model).map_err(WeightsError::io("keep", &model))?;
        sync(&self.root.join("models"))?;
        self.remember(&new.source, &new.key)?;
        self.hold(&new.key)
    }

    /// A small content as a blob.
    fn keep(&self, bytes: &[u8]) -> Result<PathBuf, WeightsError> {
        let digest = hex::encode(Sha256::digest(bytes));
        let blob = self.blob(&digest);
        if !blob.is_file() {
            let new = self.partial(&digest).with_extension(NEW);
            let written = File::create(&new).and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            });
            written.map_err(WeightsError::io("write", &new))?;
            fs::rename(&new, &blob).map_err(WeightsError::io("keep", &blob))?;
        }
        Ok(blob)
    }

    fn hold(&self, key: &str) -> Result<CachedModel, WeightsError> {
        let lock = Lock::shared(&self.use_lock(key))?;
        lock.touch();
        Ok(CachedModel { directory: self.model(key), _in_use: Arc::new(lock) })
    }

    fn remember(&self, source: &str, key: &str) -> Result<(), WeightsError> {
        let path = self.root.join("sources").join(source);
        fs::write(&path, key).map_err(WeightsError::io("write", path))
    }

    /// Held for moments only, by nobody who waits for anything else.
    fn lock(&self) -> Result<Lock, WeightsError> {
        Lock::exclusive(&self.root.join("lock"))
    }

    pub(super) fn blob(&self, sha256: &str) -> PathBuf {
        self.root.join("blobs").join(sha256)
    }

    pub(super) fn model(&self, key: &str) -> PathBuf {
        self.root.join("models").join(key)
    }

    pub(super) fn use_lock(&self, key: &str) -> PathBuf {
        self.root.join("models").join(format!("{key}.lock"))
    }

    pub(super) fn partial(&self, sha256: &str) -> PathBuf {
        self.root.join("partial").join(sha256)
    }

    pub(super) fn turn(&self, sha256: &str) -> PathBuf {
        self.root.join("turns").join(sha256)
    }

    fn building(&self, sha256: &str) -> PathBuf {
        self.partial(sha256).with_extension(BUILDING)
    }
}

pub(super) fn remove_folder(path: &Path) -> Result<(), WeightsError> {
    removed(path, fs::remove_dir_all(path))
}

pub(crate) fn remove_file(path: &Path) -> Result<(), WeightsError> {
    removed(path, fs::remove_file(path))
}

/// What is gone already is as it should be.
fn removed(path: &Path, result: std::io::Result<()>) -> Result<(), WeightsError> {
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(WeightsError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Gives a content a name in a model. From then on nobody writes it.
fn link(blob: &Path, name: &Path) -> Result<(), WeightsError> {
    make_read_only(blob)?;
    if let Some(folder) = name.parent() {
        fs::create_dir_all(folder).map_err(WeightsError::io("create", folder))?;
    }
    fs::hard_link(blob, name).map_err(WeightsError::io("link", name))
}

/// Nobody edits one model's file and changes all that have the same.
fn make_read_only(path: &Path) -> Result<(), WeightsError> {
    let changed = fs::metadata(path).and_then(|file| {
        let mut permissions = file.permissions();
        if permissions.readonly() {
            return Ok(());
        }
        permissions.set_readonly(true);
        fs::set_permissions(path, permissions)
    });
    changed.map_err(WeightsError::io("protect", path))
}

/// A folder and all under it, each after those in it.
fn folders_of(folder: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    let mut folders = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        folders.extend(entries(&folder)?.into_iter().filter(|path| path.is_dir()));
        next += 1;
    }
    folders.reverse();
    Ok(folders)
}

pub(super) fn sync(folder: &Path) -> Result<(), WeightsError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(WeightsError::io("keep", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_synced_with_all_folders_in_it_and_the_innermost_first() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), b"x").unwrap();
        assert_eq!(folders_of(root).unwrap(), [root.join("a/b"), root.join("a"), root.to_owned()]);
    }
}
