//! Weights that came whole and are not those of the registry: a note of them, so that a worker that starts again and
//! again does not download them each time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::disk::Disk;
use super::key;
use crate::error::WeightsError;
use crate::selection::Listed;

/// Ends the name of a note, which is of the digest that was expected.
pub(super) const STRANGE: &str = "strange";

/// A note that nobody wrote for so long is of no use to anybody.
const KEPT: Duration = Duration::from_hours(7 * 24);

/// As often the same digest has to be found before it is believed: a connection that changed a bit finds another one
/// each time.
const ENOUGH: u32 = 2;

/// What downloads of a file gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Strange {
    /// Which file: another one, or one that was written anew, has another name here.
    file: String,
    found: String,
    times: u32,
}

impl Strange {
    /// None: the store does not tell when a file changes.
    pub(super) fn file(url: &str, weights: &Listed) -> Option<String> {
        let tag = weights.tag.as_deref()?;
        Some(key(&[url, &weights.name, &weights.size.to_string(), tag]))
    }

    /// The note after `found` came, which may go on with an earlier one.
    fn after(before: Option<Self>, file: String, found: String) -> Self {
        let again = before.filter(|before| before.file == file && before.found == found);
        Self { file, found, times: again.map_or(0, |before| before.times).saturating_add(1) }
    }

    /// The digest that a download of this file would find once more.
    fn known(self, file: &str) -> Option<String> {
        (self.file == file && self.times >= ENOUGH).then_some(self.found)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_suffix('\n')?.split(' ').map(str::to_owned);
        let (file, found, times) = (words.next()?, words.next()?, words.next()?);
        Some(Self { file, found, times: times.parse().ok()? })
    }

    fn text(&self) -> String {
        format!("{} {} {}\n", self.file, self.found, self.times)
    }
}

impl Disk {
    /// The digest that this file has instead of `sha256`, if that is sure, and the weights are not here from elsewhere.
    pub(super) fn known_strange(&self, sha256: &str, file: &str) -> Option<String> {
        let is_here = self.blob(sha256).is_file();
        self.strange(sha256).filter(|_| !is_here)?.known(file)
    }

    /// Notes that a download of this file gave another digest than `sha256`. Whoever calls has the turn.
    pub(super) fn note_strange(
        &self,
        sha256: &str,
        file: String,
        found: String,
    ) -> Result<(), WeightsError> {
        let note = Strange::after(self.strange(sha256), file, found);
        let path = self.strange_path(sha256);
        fs::write(&path, note.text()).map_err(WeightsError::io("write", path))
    }

    /// What stands in a note that was cut short is nothing.
    fn strange(&self, sha256: &str) -> Option<Strange> {
        Strange::parse(&fs::read_to_string(self.strange_path(sha256)).ok()?)
    }

    fn strange_path(&self, sha256: &str) -> PathBuf {
        self.partial(sha256).with_extension(STRANGE)
    }
}

/// Whether a note is so old. One whose age is not known is not.
pub(super) fn is_old(note: &Path) -> bool {
    let written = fs::metadata(note).and_then(|note| note.modified());
    written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age > KEPT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(before: Option<&Strange>, file: &str, found: &str) -> Strange {
        Strange::after(before.cloned(), file.to_owned(), found.to_owned())
    }

    #[test]
    fn a_digest_is_believed_when_it_was_found_twice_in_the_same_file() {
        let once = after(None, "file", "found");
        assert_eq!(once.clone().known("file"), None);
        let twice = after(Some(&once), "file", "found");
        assert_eq!(twice.clone().known("file"), Some("found".to_owned()));
        assert_eq!(twice.clone().known("written anew"), None);
        assert_eq!(after(Some(&twice), "file", "a wrong bit").known("file"), None);
        assert_eq!(after(Some(&twice), "written anew", "found").known("written anew"), None);
    }

    #[test]
    fn a_note_is_read_as_it_was_written_and_a_torn_one_not_at_all() {
        let note = after(None, "file", "found");
        let text = note.text();
        assert_eq!(Strange::parse(&text), Some(note));
        for end in 0..text.len() {
            assert_eq!(Strange::parse(&text[..end]), None, "{}", &text[..end]);
        }
    }

    #[test]
    fn a_file_whose_store_tells_no_version_has_no_note() {
        let file = |tag: Option<&str>| Listed {
            name: "model.safetensors".to_owned(),
            size: 7,
            tag: tag.map(str::to_owned),
        };
        assert_eq!(Strange::file("s3://b/m", &file(None)), None);
        let (old, new) = (file(Some("1")), file(Some("2")));
        assert_ne!(Strange::file("s3://b/m", &old), Strange::file("s3://b/m", &new));
        assert_ne!(Strange::file("s3://b/m", &old), Strange::file("s3://b/n", &old));
    }
}
