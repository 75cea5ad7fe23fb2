//! A file that is being filled, and beside it the list of the parts that it has. Blocking.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::error::WeightsError;
use crate::parts::PART;
use crate::selection::Listed;

/// An open download. Both files stay those that were opened, also when their names are given to others meanwhile.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    data: File,
    list: File,
}

impl Partial {
    /// Opens what is there of `file`, or begins; gives the parts that are there.
    ///
    /// # Errors
    /// When the disk does not let it.
    pub(super) fn open(path: &Path, file: &Listed) -> Result<(Self, Vec<u64>), WeightsError> {
        let list_path = list_path(path);
        let head = format!("{PART} {} {}\n", file.size, file.tag.as_deref().unwrap_or("-"));
        let known = fs::read_to_string(&list_path).unwrap_or_default();
        let goes_on = known.starts_with(&head) && path.is_file();
        let done = if goes_on { parts_of(&known) } else { Vec::new() };
        // One that is written anew has nothing of the old one in it.
        let options = || File::options().create(true).truncate(!goes_on).write(true).clone();
        let data = options().open(path).map_err(WeightsError::io("create", path))?;
        data.set_len(file.size).map_err(WeightsError::io("make room for", path))?;
        if !goes_on {
            fs::write(&list_path, &head).map_err(WeightsError::io("write", &list_path))?;
        }
        let list = File::options().append(true).open(&list_path);
        let mut list = list.map_err(WeightsError::io("write", &list_path))?;
        if goes_on && !known.ends_with('\n') {
            // The number that was cut short is none.
            list.write_all(b"?\n").map_err(WeightsError::io("write", &list_path))?;
        }
        Ok((Self { path: path.to_owned(), data, list }, done))
    }

    /// Keeps a part.
    ///
    /// # Errors
    /// When the disk is full, or worse.
    pub(super) fn write(&self, part: u64, at: u64, bytes: &[u8]) -> Result<(), WeightsError> {
        // The list after the data, in one write: a line that is there is true, unless the machine fails, and then the
        // digest tells.
        let line = format!("{part}\n");
        let written = self.data.write_all_at(bytes, at);
        let written = written.and_then(|()| (&self.list).write_all(line.as_bytes()));
        written.map_err(WeightsError::io("write", &self.path))
    }
}

/// The numbers in the lines that are complete.
fn parts_of(list: &str) -> Vec<u64> {
    let complete = list.rsplit_once('\n').map_or("", |(complete, _)| complete);
    complete.lines().skip(1).filter_map(|line| line.parse().ok()).collect()
}

pub(super) fn list_path(path: &Path) -> PathBuf {
    path.with_extension("parts")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(size: u64, tag: &str) -> Listed {
        Listed { name: "model.safetensors".to_owned(), size, tag: Some(tag.to_owned()) }
    }

    fn done(path: &Path, file: &Listed) -> Vec<u64> {
        Partial::open(path, file).unwrap().1
    }

    #[test]
    fn what_was_written_is_known_after_a_restart_and_a_torn_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        let file = listed(20 * PART, "a");
        let (partial, none) = Partial::open(&path, &file).unwrap();
        assert_eq!(none, Vec::<u64>::new());
        partial.write(3, 3 * PART, b"three").unwrap();
        partial.write(12, 12 * PART, b"twelve").unwrap();
        assert_eq!(done(&path, &file), [3, 12]);
        let list = list_path(&path);
        let text = fs::read_to_string(&list).unwrap();
        fs::write(&list, &text[..text.len() - 2]).unwrap();
        let (partial, known) = Partial::open(&path, &file).unwrap();
        assert_eq!(known, [3], "the line of part 12 was cut to 1");
        partial.write(5, 5 * PART, b"five").unwrap();
        assert_eq!(done(&path, &file), [3, 5], "what follows the torn line is no part of it");
    }

    #[test]
    fn another_file_begins_from_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        let (partial, _) = Partial::open(&path, &listed(2 * PART, "a")).unwrap();
        partial.write(0, 0, b"old").unwrap();
        assert_eq!(done(&path, &listed(2 * PART, "b")), Vec::<u64>::new());
        assert_eq!(fs::read(&path).unwrap()[..3], [0, 0, 0]);
        fs::remove_file(&path).unwrap();
        assert_eq!(done(&path, &listed(2 * PART, "b")), Vec::<u64>::new());
    }
}
