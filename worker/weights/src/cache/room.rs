//! Room for a model: what is on the disk, and what leaves. Blocking; whoever calls holds the cache's lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tracing::info;

use super::disk::{BUILDING, Disk};
use super::lock::Lock;
use crate::download;
use crate::error::WeightsError;
use crate::evict::{Kept, victims};

/// Bytes of the disk that the cache leaves to others.
const SPARE: u64 = 256 << 20;

/// Bytes of a block, as the system counts them.
const BLOCK: u64 = 512;

/// Begins the names of models among what could leave.
const MODELS: &str = "models/";

/// Everything that takes room.
#[derive(Default)]
struct Stock {
    kept: Vec<Kept>,
    sizes: BTreeMap<String, u64>,
    /// Bytes that downloads of others will still take from the disk.
    outstanding: u64,
    /// Bytes that our own download has on the disk.
    ours: u64,
}

impl Disk {
    /// Evicts what was not used for longest until `need` more bytes fit. `own` are the weights that the room is for:
    /// what has arrived of them is part of the need.
    pub(super) fn make_room(&self, need: u64, own: &str) -> Result<(), WeightsError> {
        self.remove_remains()?;
        self.remove_orphans()?;
        let stock = self.stock(own)?;
        let limit = self.limit.min(stock.most(self.free()?));
        let leave = victims(&stock.kept, &stock.sizes, limit, need).map_err(|no_room| {
            WeightsError::NoRoom { directory: self.root.clone(), need, free: no_room.free }
        })?;
        for name in leave {
            info!(name, "leaves the cache, so that a model has room");
            match name.strip_prefix(MODELS) {
                Some(key) => self.evict(key)?,
                None => download::discard(&self.root.join(name))?,
            }
        }
        self.remove_orphans()
    }

    fn stock(&self, own: &str) -> Result<Stock, WeightsError> {
        let mut stock = Stock::default();
        let mut names = BTreeMap::new();
        for path in entries(&self.root.join("blobs"))? {
            let (Some(name), Some(file)) = (file_name(&path), metadata(&path)?) else { continue };
            names.insert(file.ino(), name.clone());
            stock.sizes.insert(name, file.len());
        }
        for path in entries(&self.root.join("models"))? {
            let Some(key) = file_name(&path).filter(|_| path.is_dir()) else { continue };
            let lock = self.use_lock(&key);
            let used_at = metadata(&lock)?.map_or(0, |file| modified(&file));
            let (blobs, in_use) = (blobs_under(&path, &names)?, Lock::is_held(&lock)?);
            stock.kept.push(Kept { key: format!("{MODELS}{key}"), blobs, used_at, in_use });
        }
        for path in entries(&self.root.join("partial"))? {
            let Some(name) = file_name(&path) else { continue };
            let key = format!("partial/{name}");
            let (sha256, kind) = name.split_once('.').unwrap_or((&name, ""));
            if kind == BUILDING {
                // What is left of them is in somebody's hands.
                let blobs = blobs_under(&path, &names)?;
                stock.kept.push(Kept { key, blobs, used_at: 0, in_use: true });
            } else if let Some(file) = metadata(&path)?.filter(|_| kind.is_empty()) {
                let there = file.blocks().saturating_mul(BLOCK).min(file.len());
                if sha256 == own {
                    stock.ours = there;
                    continue;
                }
                let in_use = Lock::is_held(&self.turn(sha256))?;
                let missing = if in_use { file.len() - there } else { 0 };
                stock.outstanding = stock.outstanding.saturating_add(missing);
                let size = if in_use { file.len() } else { there };
                stock.sizes.insert(key.clone(), size);
                let (blobs, used_at) = (BTreeSet::from([key.clone()]), modified(&file));
                stock.kept.push(Kept { key, blobs, used_at, in_use });
            }
        }
        Ok(stock)
    }

    /// Bytes of the disk that are free.
    fn free(&self) -> Result<u64, WeightsError> {
        let disk = rustix::fs::statvfs(&self.root)
            .map_err(|error| WeightsError::io("measure the disk of", &self.root)(error.into()))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

impl Stock {
    /// Most bytes that the cache can have on a disk with so many free bytes.
    fn most(&self, free: u64) -> u64 {
        let used = self.sizes.values().fold(self.ours, |sum, size| sum.saturating_add(*size));
        let on_disk = used.saturating_sub(self.outstanding);
        on_disk.saturating_add(free).saturating_sub(SPARE)
    }
}

/// The contents of a model's files.
fn blobs_under(
    folder: &Path,
    names: &BTreeMap<u64, String>,
) -> Result<BTreeSet<String>, WeightsError> {
    let mut blobs = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder)? {
            if path.is_dir() {
                folders.push(path);
            } else if let Some(file) = metadata(&path)? {
                blobs.extend(names.get(&file.ino()).cloned());
            }
        }
    }
    Ok(blobs)
}

pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    let read = fs::read_dir(folder).map_err(WeightsError::io("read", folder))?;
    let paths: Result<Vec<PathBuf>, _> =
        read.map(|entry| entry.map(|entry| entry.path())).collect();
    paths.map_err(WeightsError::io("read", folder))
}

/// None: it is gone.
fn metadata(path: &Path) -> Result<Option<Metadata>, WeightsError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(WeightsError::io("examine", path)(error)),
    }
}

/// Milliseconds since 1970; only their order counts.
fn modified(file: &Metadata) -> u64 {
    let since = file.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn file_name(path: &Path) -> Option<String> {
    path.file_name().and_then(|name| name.to_str()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_downloads_will_take_is_not_free() {
        let mut stock = Stock::default();
        assert_eq!(stock.most(SPARE + 100), 100);
        assert_eq!(stock.most(SPARE - 1), 0, "others need it more");
        // A model of 40 bytes, and a download of 60 that has 10.
        stock.sizes = BTreeMap::from([("a".to_owned(), 40), ("partial/b".to_owned(), 60)]);
        stock.outstanding = 50;
        // 100 of the cache's and 50 that are free, if all of the cache's leave.
        assert_eq!(stock.most(SPARE + 100), 150);
        let room = |need| victims(&stock.kept, &stock.sizes, stock.most(SPARE + 100), need);
        assert_eq!(room(50), Ok(vec![]));
        assert!(room(51).is_err(), "the download needs the rest");
        // 20 bytes of our own download are there: they are part of its need.
        stock.ours = 20;
        assert_eq!(victims(&[], &stock.sizes, stock.most(SPARE + 100), 70), Ok(vec![]));
    }
}
