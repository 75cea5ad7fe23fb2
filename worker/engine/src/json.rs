//! Reading the small JSON files of a model directory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::LoadError;

/// The largest JSON file of a known model, a multilingual tokenizer, has 17 MB.
const MAX_JSON_BYTES: u64 = 128 << 20;

/// The bytes of a file, which must not be larger than any sensible one of its kind.
pub(crate) fn read_bytes(path: &Path, missing: &'static str) -> Result<Vec<u8>, LoadError> {
    let read = |path: PathBuf| {
        move |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => LoadError::Missing { path, remedy: missing },
            _ => LoadError::Read { path, source },
        }
    };
    let file = File::open(path).map_err(read(path.to_owned()))?;
    let mut bytes = Vec::new();
    file.take(MAX_JSON_BYTES + 1).read_to_end(&mut bytes).map_err(read(path.to_owned()))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_JSON_BYTES) {
        Ok(bytes)
    } else {
        let what = format!("longer than {MAX_JSON_BYTES} bytes");
        Err(LoadError::Corrupt { path: path.to_owned(), what })
    }
}

pub(crate) fn read<T: DeserializeOwned>(
    path: &Path,
    missing: &'static str,
) -> Result<T, LoadError> {
    let bytes = read_bytes(path, missing)?;
    serde_json::from_slice(&bytes)
        .map_err(|source| LoadError::Json { path: path.to_owned(), source })
}

/// The same, for a file that may be absent.
pub(crate) fn read_optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LoadError> {
    match read(path, "") {
        Ok(value) => Ok(Some(value)),
        Err(LoadError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A small text that may be absent.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, LoadError> {
    let bytes = match read_bytes(path, "") {
        Ok(bytes) => bytes,
        Err(LoadError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|_| LoadError::Corrupt {
        path: path.to_owned(),
        what: "it is not UTF-8".to_owned(),
    })
}
