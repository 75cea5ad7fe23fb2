//! Items that are whole files: images, which texts of an input name, and recordings.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::source::{MAX_BYTES, limit, read_bytes, read_file};
use super::{Group, Input, InputError};

/// Reads the images that an input names. Blocks.
pub(crate) fn read_images(input: Input) -> Result<Input<Bytes>, InputError> {
    let mut room = Room::default();
    let mut read = |names: Vec<String>| -> Result<Vec<Bytes>, InputError> {
        let file = |name: String| room.take(read_file(Path::new(&name))?);
        names.into_iter().map(file).collect()
    };
    let loose = read(input.loose)?;
    let mut groups = Vec::with_capacity(input.groups.len());
    for Group { items, labels } in input.groups {
        groups.push(Group { items: read(items)?, labels });
    }
    Ok(Input { loose, groups, skipped: input.skipped })
}

/// Reads recordings, none of which is empty. Blocks.
pub(crate) fn read_recordings(paths: &[PathBuf]) -> Result<Input<Bytes>, InputError> {
    let mut room = Room::default();
    let read = |path: &PathBuf| match read_bytes(path)? {
        (name, bytes) if bytes.is_empty() => Err(InputError::Empty { name }),
        (_, bytes) => room.take(bytes),
    };
    let loose = paths.iter().map(read).collect::<Result<_, _>>()?;
    Ok(Input { loose, ..Input::default() })
}

/// How many bytes the files of a command may still have.
struct Room(u64);

impl Default for Room {
    fn default() -> Self {
        Self(MAX_BYTES)
    }
}

impl Room {
    fn take(&mut self, file: Vec<u8>) -> Result<Bytes, InputError> {
        let left = self.0.checked_sub(file.len() as u64);
        self.0 = left.ok_or_else(|| InputError::TooManyFiles { limit: limit() })?;
        Ok(Bytes::from(file))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_files_that_are_named_are_read_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let name = |name: &str| folder.path().join(name).display().to_string();
        for (file, content) in [("a", "1"), ("b", "2"), ("c", "3")] {
            fs::write(name(file), content).unwrap();
        }
        let labels = [("k".to_owned(), "v".to_owned())].into();
        let groups = vec![Group { items: vec![name("c")], labels }];
        let input = Input { loose: vec![name("b"), name("a")], groups, skipped: 2 };
        let images = read_images(input).unwrap();
        assert_eq!(images.loose, [Bytes::from("2"), Bytes::from("1")]);
        assert_eq!(images.groups[0].items, [Bytes::from("3")]);
        assert_eq!((images.groups[0].labels["k"].as_str(), images.skipped), ("v", 2));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let input = Input { loose: vec!["no/such.png".to_owned()], ..Input::default() };
        let error = read_images(input).unwrap_err().to_string();
        assert_eq!(error, "cannot read no/such.png: there is no such file");
    }

    #[test]
    fn recordings_are_whole_files_with_something_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let [sound, nothing] = ["a.wav", "b.wav"].map(|name| folder.path().join(name));
        fs::write(&sound, b"RIFF\0\n\xff").unwrap();
        fs::write(&nothing, b"").unwrap();
        let input = read_recordings(&[sound.clone(), sound.clone()]).unwrap();
        assert_eq!((input.items(), input.loose[1].as_ref()), (2, &b"RIFF\0\n\xff"[..]));
        let error = read_recordings(&[sound, nothing]).unwrap_err().to_string();
        assert!(error.ends_with("b.wav is empty"), "{error}");
    }

    #[test]
    fn files_have_a_bound_together() {
        let mut room = Room(3);
        assert_eq!(room.take(vec![1, 2]).unwrap(), [1, 2].as_slice());
        let error = room.take(vec![3, 4]).unwrap_err().to_string();
        assert!(error.starts_with("the files have more than 256 MiB together"), "{error}");
        assert!(room.take(vec![5]).is_ok(), "what did not fit takes no room");
    }
}
