//! Is what an engine is about to read what its name says? Names prove nothing.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use stoker_weights::Format;

use super::{WEIGHTS, WeightsError};

/// Looks at the first bytes of all weights in a model's directory; gives the size of all of them. Blocking.
///
/// # Errors
/// Names the file that is neither safetensors nor GGUF, and what it is.
pub fn check(directory: &Path) -> Result<u64, WeightsError> {
    let mut bytes: u64 = 0;
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| WeightsError::Read { path, source }
    };
    for entry in fs::read_dir(directory).map_err(unreadable(directory))? {
        let path = entry.map_err(unreadable(directory))?.path();
        let is_gguf = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
        if is_gguf || path.file_name().is_some_and(|name| name == WEIGHTS) {
            let (head, size) = head(&path).map_err(unreadable(&path))?;
            let name = path.display().to_string();
            Format::of(&name, &head, size).map_err(|source| WeightsError::Refused { source })?;
            bytes = bytes.saturating_add(size);
        }
    }
    Ok(bytes)
}

fn head(path: &Path) -> io::Result<(Vec<u8>, u64)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut head = Vec::new();
    file.take(Format::HEAD).read_to_end(&mut head)?;
    Ok((head, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, content: &[u8]) -> Result<u64, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), content).unwrap();
        fs::write(folder.path().join("pytorch_model.bin"), b"\x80\x02}q\0.").unwrap();
        check(folder.path()).map_err(|error| stoker_runtime::error::chain(&error))
    }

    #[test]
    fn weights_are_what_their_first_bytes_say() {
        assert_eq!(checked("model.safetensors", b"\x02\0\0\0\0\0\0\0{}"), Ok(10));
        assert_eq!(checked("some.Q4_0.GGUF", b"GGUF\x03\0\0\0"), Ok(8));
        assert_eq!(checked("pytorch_model.bin", b"\x80\x02}q\0."), Ok(0), "it is not read");
        let error = checked("model.safetensors", b"PK\x03\x04\0\0\x08\x08").unwrap_err();
        assert!(error.contains("model.safetensors is a pickle"), "{error}");
        let error = checked("a.gguf", b"version https://git-lfs.github.com/spec/v1\n").unwrap_err();
        assert!(error.contains("a.gguf is a Git LFS pointer"), "{error}");
    }
}
