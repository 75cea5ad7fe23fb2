//! Where results are written: standard output, or a file that appears only when it is whole.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::failure::Failure;

/// A file under way. Dropped before [`NewFile::commit`], nothing remains of it.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
}

impl NewFile {
    /// Begins a file beside `path`, which is replaced at the end.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if path.is_dir() {
            return Err(Failure::usage(format!("{} is a folder; name a file", path.display())));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".stoker-").suffix(".partial");
        // As for any other file, the user's umask decides who may read it.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let file = builder
            .tempfile_in(folder)
            .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    /// Puts the whole file in its place.
    pub(crate) fn commit(mut self) -> Result<(), Failure> {
        let path = self.path.clone();
        let written = self.file.flush();
        written.map_err(|error| write_error(&path, &error))?;
        let file = self.file.into_inner().map_err(|error| write_error(&path, error.error()))?;
        file.persist(&path).map_err(|error| write_error(&path, &error.error))?;
        Ok(())
    }

    /// What a failed write means for this file.
    pub(crate) fn error(&self, error: &io::Error) -> Failure {
        write_error(&self.path, error)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn write_error(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::failed(format!(
            "cannot write {}: the disk is full; free some space",
            path.display()
        )),
        _ => Failure::failed(format!("cannot write {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.npy");
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);

        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        assert!(!path.exists());
        file.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let failure = NewFile::create(folder.path()).unwrap_err();
        assert!(failure.text().contains("is a folder"));
    }
}
