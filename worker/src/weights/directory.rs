//! A model in a local directory: is everything there that an engine needs?

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Layout, PICKLED, WEIGHTS, WEIGHTS_INDEX, WeightsError};

/// The directory itself, absolute, if it holds a model. Blocking.
///
/// # Errors
/// Names the file or directory that is missing or refused.
pub fn check(path: &Path, layout: Layout) -> Result<PathBuf, WeightsError> {
    let directory = match fs::canonicalize(path) {
        Ok(directory) => directory,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(WeightsError::NoDirectory { path: path.to_owned() });
        }
        Err(source) => return Err(WeightsError::Read { path: path.to_owned(), source }),
    };
    if !directory.is_dir() {
        return Err(WeightsError::NotADirectory { path: directory });
    }
    if layout.takes_gguf() && has_gguf(&directory)? {
        return Ok(directory);
    }
    check_weights(&directory)?;
    for name in layout.required() {
        let file = directory.join(name);
        if !file.is_file() {
            return Err(WeightsError::FileMissing { path: file });
        }
    }
    Ok(directory)
}

fn check_weights(directory: &Path) -> Result<(), WeightsError> {
    if directory.join(WEIGHTS).is_file() {
        return Ok(());
    }
    if directory.join(WEIGHTS_INDEX).is_file() {
        return Err(WeightsError::Sharded { path: directory.to_owned() });
    }
    match pickled(directory)? {
        Some(found) => Err(WeightsError::Pickled { path: directory.to_owned(), found }),
        None => Err(WeightsError::FileMissing { path: directory.join(WEIGHTS) }),
    }
}

fn has_gguf(directory: &Path) -> Result<bool, WeightsError> {
    let read_error = |source| WeightsError::Read { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(read_error)? {
        let path = entry.map_err(read_error)?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The first file of pickled weights, by name.
fn pickled(directory: &Path) -> Result<Option<String>, WeightsError> {
    let read_error = |source| WeightsError::Read { path: directory.to_owned(), source };
    let mut found = None;
    for entry in fs::read_dir(directory).map_err(read_error)? {
        let path = entry.map_err(read_error)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if !extension.is_some_and(|extension| PICKLED.contains(&extension)) {
            continue;
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        found = match (found, name) {
            (Some(first), Some(name)) => Some(std::cmp::min::<String>(first, name)),
            (first, name) => first.or(name),
        };
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &Path) -> Result<PathBuf, WeightsError> {
        super::check(path, Layout::SentenceTransformers)
    }

    fn model(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(directory.path().join(file), b"{}").unwrap();
        }
        directory
    }

    const ALL: [&str; 4] = ["config.json", "tokenizer.json", "modules.json", "model.safetensors"];

    #[test]
    fn weights_in_parts_are_refused_with_the_remedy() {
        let directory = model(&["config.json", "tokenizer.json", "model.safetensors.index.json"]);
        let error = check(directory.path()).unwrap_err();
        assert!(matches!(error, WeightsError::Sharded { .. }), "{error}");
        assert!(error.to_string().contains("one model.safetensors"), "{error}");
    }

    #[test]
    fn a_complete_directory_is_accepted() {
        let directory = model(&ALL);
        let found = check(directory.path()).unwrap();
        assert_eq!(found, fs::canonicalize(directory.path()).unwrap());
    }

    #[test]
    fn a_model_without_modules_does_for_other_tasks_than_embedding() {
        let directory = model(&["config.json", "tokenizer.json", "model.safetensors"]);
        assert!(super::check(directory.path(), Layout::Transformers).is_ok());
        assert!(matches!(check(directory.path()), Err(WeightsError::FileMissing { .. })));
    }

    #[test]
    fn a_gguf_file_is_a_model_that_generates_and_no_other() {
        let directory = model(&["some-model.Q4_0.gguf"]);
        assert!(super::check(directory.path(), Layout::Generation).is_ok());
        assert!(super::check(directory.path(), Layout::Transformers).is_err());
        let directory = model(&["config.json", "tokenizer.json", "model.safetensors"]);
        assert!(super::check(directory.path(), Layout::Generation).is_ok());
        let error = super::check(model(&["readme.md"]).path(), Layout::Generation).unwrap_err();
        assert!(matches!(error, WeightsError::FileMissing { .. }), "{error}");
    }

    #[test]
    fn what_is_missing_is_named() {
        for missing in ALL {
            let there: Vec<&str> = ALL.into_iter().filter(|file| *file != missing).collect();
            let directory = model(&there);
            let error = check(directory.path()).unwrap_err();
            assert!(matches!(error, WeightsError::FileMissing { .. }), "{error}");
            assert!(error.to_string().contains(missing), "{error}");
        }
        let error = check(Path::new("no-such-directory")).unwrap_err().to_string();
        assert!(error.contains("no-such-directory") && error.contains("source"), "{error}");
        let directory = model(&["config.json"]);
        let error = check(&directory.path().join("config.json")).unwrap_err();
        assert!(matches!(error, WeightsError::NotADirectory { .. }), "{error}");
    }

    #[test]
    fn pickle_is_refused_with_the_remedy() {
        let directory =
            model(&["config.json", "tokenizer.json", "pytorch_model.bin", "adapter.pt"]);
        let error = check(directory.path()).unwrap_err().to_string();
        assert!(error.contains("adapter.pt") && error.contains("convert"), "{error}");
    }

    #[test]
    fn pickle_beside_safetensors_does_no_harm() {
        let files = [&ALL[..], &["pytorch_model.bin"]].concat();
        assert!(check(model(&files).path()).is_ok());
    }
}
