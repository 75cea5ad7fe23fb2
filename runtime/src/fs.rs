//! Files that survive a crash whole, and room on the disk. Blocking: call off the async runtime.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    #[error("cannot write {}: the disk is full; free some space", path.display())]
    Full { path: PathBuf },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the free space at {}", path.display())]
    FreeSpace {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Replaces `path` by a file with `bytes`, or leaves it as it was.
///
/// Readers see the old or the new content, never a part; after success the new content survives a
/// power cut (temporary file beside it, fsync, rename, fsync of the folder). The file is readable
/// by its owner only.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), FsError> {
    replace(path, bytes).map_err(|source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            FsError::Full { path: path.to_owned() }
        }
        _ => FsError::Write { path: path.to_owned(), source },
    })
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Removed again on every early return.
    let mut temporary = tempfile::Builder::new().prefix(".stoker-").tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Bytes that an unprivileged process can still write to the file system that holds `path`, which
/// must exist.
pub fn free_space(path: &Path) -> Result<u64, FsError> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|error| FsError::FreeSpace { path: path.to_owned(), source: error.into() })?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write_atomically(&path, b"a longer first version").unwrap();
        write_atomically(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(names(folder.path()), ["state.json"]);
    }

    #[test]
    fn a_failed_write_leaves_the_folder_as_it_was_and_names_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("taken");
        std::fs::create_dir(&target).unwrap();
        std::fs::write(target.join("x"), b"x").unwrap();
        let error = write_atomically(&target, b"never").unwrap_err();
        assert!(error.to_string().ends_with("taken"), "{error}");
        assert_eq!(names(folder.path()), ["taken"]);

        let missing = folder.path().join("no-such-folder").join("file");
        assert!(matches!(write_atomically(&missing, b""), Err(FsError::Write { .. })));
    }

    #[test]
    fn free_space_is_known_for_a_folder_and_an_error_for_a_missing_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_space(folder.path()).unwrap() > 0);
        assert!(free_space(&folder.path().join("missing")).is_err());
    }
}
