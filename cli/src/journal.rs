//! The autoscaler's journal, as it lies on the disk: a file of JSON lines for each day.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use stoker_core::fleet::journal::Line;

use crate::failure::Failure;

/// Where an autoscaler writes it unless told otherwise.
pub(crate) const FOLDER: &str = ".stoker/journal";

/// Lines of a journal, and how many could not be read: the last one of a process that was killed, or those of a newer
/// version.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) lines: Vec<Line>,
    pub(crate) unreadable: u64,
}

/// Reads a folder's files whose dates (`2026-11-26`) `wanted` takes.
pub(crate) fn read(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Lines, Failure> {
    let mut lines = Lines::default();
    for (date, path) in files(folder)? {
        if !wanted(&date) {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|error| cannot_read(&path, &error))?;
        for line in text.lines() {
            match serde_json::from_str(line) {
                Ok(line) => lines.lines.push(line),
                Err(_) => lines.unreadable += 1,
            }
        }
    }
    lines.lines.sort_by_key(|line| line.at);
    Ok(lines)
}

/// The files of a journal by date, the earliest first.
fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let entries = fs::read_dir(folder).map_err(|error| {
        let failure = cannot_read(folder, &error);
        match error.kind() {
            ErrorKind::NotFound => failure.hint(
                "the autoscaler writes its journal where its --journal says; name that folder with --journal",
            ),
            _ => failure,
        }
    })?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| cannot_read(folder, &error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let date = name.strip_prefix("journal-").and_then(|rest| rest.strip_suffix(".jsonl"));
        if let Some(date) = date.map(str::to_owned) {
            files.push((date, path));
        }
    }
    files.sort();
    Ok(files)
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot read the journal {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use stoker_core::fleet::journal::Record;
    use stoker_core::ids::Epoch;
    use stoker_core::time::Timestamp;

    use super::*;

    #[test]
    fn lines_of_the_wanted_days_are_read_in_order_and_torn_ones_counted() {
        let folder = tempfile::tempdir().unwrap();
        let line = |at: i64| Line {
            at: Timestamp::from_unix_millis(at),
            epoch: Epoch::new(1),
            record: Record::Outcomes { outcomes: Vec::new() },
        };
        let text = |line: &Line| serde_json::to_string(line).unwrap();
        let write = |date: &str, text: String| {
            fs::write(folder.path().join(format!("journal-{date}.jsonl")), text).unwrap();
        };
        write("2026-11-25", text(&line(3)));
        write("2026-11-26", format!("{}\n{}\n{{\"at\":", text(&line(9)), text(&line(5))));
        fs::write(folder.path().join("notes.txt"), "x").unwrap();
        let from = |wanted: &str| read(folder.path(), |date| date >= wanted).unwrap();
        let lines = from("2026-11-26");
        assert_eq!((lines.lines, lines.unreadable), (vec![line(5), line(9)], 1));
        assert_eq!(from("2026-11-25").lines.len(), 3);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_with_what_to_do() {
        let failure = read(Path::new("/none/journal"), |_| true).unwrap_err();
        assert!(failure.text().contains("/none/journal") && failure.text().contains("--journal"));
    }
}
