//! The journal on the disk: a file of JSON lines for each day (UTC), kept for a number of days.
//!
//! A journal that cannot be written holds up nothing: it explains decisions, and decides none.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use stoker_core::fleet::journal::Line;
use stoker_core::time::Timestamp;

const DAY: Duration = Duration::from_hours(24);
const PREFIX: &str = "journal-";
const SUFFIX: &str = ".jsonl";

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    folder: Option<PathBuf>,
    kept_days: u32,
    open: Option<(i64, BufWriter<File>)>,
    /// The last failure was logged already.
    failing: bool,
}

impl Journal {
    /// In this folder, which is made; `None`: nothing is written.
    pub const fn new(folder: Option<PathBuf>, kept_days: u32) -> Self {
        Self { folder, kept_days, open: None, failing: false }
    }

    /// Writes lines, all of them to the disk's cache before it returns.
    pub fn write(&mut self, lines: &[Line]) {
        let Some(folder) = self.folder.clone() else { return };
        match self.append(&folder, lines) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                self.open = None;
                tracing::warn!(folder = %folder.display(), %error, "the journal cannot be written");
            }
            Err(_) => self.open = None,
        }
    }

    fn append(&mut self, folder: &Path, lines: &[Line]) -> std::io::Result<()> {
        for line in lines {
            let day = day(line.at);
            if self.open.as_ref().is_none_or(|(of, _)| *of != day) {
                std::fs::create_dir_all(folder)?;
                let path = folder.join(name(day));
                let file = OpenOptions::new().create(true).append(true).open(path)?;
                self.open = Some((day, BufWriter::new(file)));
                forget(folder, day - i64::from(self.kept_days))?;
            }
            if let Some((_, file)) = &mut self.open {
                serde_json::to_writer(&mut *file, line)?;
                file.write_all(b"\n")?;
            }
        }
        match &mut self.open {
            Some((_, file)) => file.flush(),
            None => Ok(()),
        }
    }
}

/// Days since the epoch.
fn day(at: Timestamp) -> i64 {
    let day = i64::try_from(DAY.as_millis()).expect("a day fits");
    at.as_unix_millis().div_euclid(day)
}

/// The name of a day's file, as its date.
fn name(day: i64) -> String {
    let at = DAY.saturating_mul(u32::try_from(day).unwrap_or(0));
    format!("{PREFIX}{}{SUFFIX}", Timestamp::from_unix_millis(0).after(at).date())
}

/// Removes the files of days before this one.
fn forget(folder: &Path, day: i64) -> std::io::Result<()> {
    let oldest = name(day);
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.file_name();
        let Some(file) = file.to_str() else { continue };
        // Dates of one length sort as their days do.
        if file.starts_with(PREFIX) && file.ends_with(SUFFIX) && file < oldest.as_str() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use stoker_core::fleet::journal::Record;
    use stoker_core::ids::Epoch;

    use super::*;

    fn line(day: u64, second: u64) -> Line {
        let at = Timestamp::default().after(DAY * u32::try_from(day).unwrap());
        let at = at.after(Duration::from_secs(second));
        Line { at, epoch: Epoch::new(1), record: Record::Outcomes { outcomes: Vec::new() } }
    }

    #[test]
    fn each_day_has_its_file_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::new(Some(path.clone()), 2);
        journal.write(&[line(20_000, 0), line(20_000, 1)]);
        journal.write(&[line(20_001, 5)]);
        let names = || {
            let entries = std::fs::read_dir(&path).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["journal-2024-10-04.jsonl", "journal-2024-10-05.jsonl"]);
        let text = std::fs::read_to_string(path.join("journal-2024-10-04.jsonl")).unwrap();
        let lines: Vec<Line> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, [line(20_000, 0), line(20_000, 1)]);
        journal.write(&[line(20_003, 0)]);
        assert_eq!(names(), ["journal-2024-10-05.jsonl", "journal-2024-10-07.jsonl"]);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_no_error() {
        let mut journal = Journal::new(Some(PathBuf::from("/proc/none/journal")), 2);
        journal.write(&[line(20_000, 0)]);
        assert!(journal.failing);
    }
}
