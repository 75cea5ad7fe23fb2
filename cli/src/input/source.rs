//! Where input comes from, and how much of it is read at once.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use super::{Input, InputError, jsonl, lines};

/// More than this in one command would not fit the memory of a small machine twice.
pub(super) const MAX_BYTES: u64 = 256 << 20;

/// [`MAX_BYTES`], to be read by people.
pub(super) fn limit() -> String {
    format!("{} MiB", MAX_BYTES >> 20)
}

/// How the bytes of a source are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Lines,
    Jsonl,
}

/// Where the input is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Arguments(Vec<String>),
    Stdin(Form),
    File(PathBuf, Form),
}

impl Source {
    /// A file, or standard input where the path is `-`.
    pub(crate) fn at(path: &Path, form: Form) -> Self {
        if path.as_os_str() == "-" { Self::Stdin(form) } else { Self::File(path.to_owned(), form) }
    }

    /// Whether it would wait for a person to type.
    pub(crate) fn waits_for_typing(&self) -> bool {
        matches!(self, Self::Stdin(_)) && io::stdin().is_terminal()
    }
}

/// Reads all of it. Blocks.
pub(crate) fn read(source: &Source) -> Result<Input, InputError> {
    match source {
        Source::Arguments(texts) => from_arguments(texts),
        Source::Stdin(form) => parse("standard input", *form, io::stdin().lock()),
        Source::File(path, form) => {
            let name = path.display().to_string();
            let file = open(path).map_err(|error| read_error(&name, &error))?;
            parse(&name, *form, file)
        }
    }
}

fn from_arguments(texts: &[String]) -> Result<Input, InputError> {
    match texts.iter().position(|text| text.trim().is_empty()) {
        Some(index) => Err(InputError::EmptyArgument { position: index + 1 }),
        None => Ok(Input { loose: texts.to_vec(), ..Input::default() }),
    }
}

fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    // Opening a folder succeeds; only reading it fails, with a less helpful message.
    if file.metadata()?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    Ok(file)
}

/// The bytes of a file, or of standard input where the path is `-`, with what to call it. Blocks.
pub(crate) fn read_bytes(path: &Path) -> Result<(String, Vec<u8>), InputError> {
    if path.as_os_str() == "-" {
        let name = "standard input".to_owned();
        return all_of(&name, io::stdin().lock()).map(|bytes| (name, bytes));
    }
    read_file(path).map(|bytes| (path.display().to_string(), bytes))
}

/// The bytes of a file. Blocks.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, InputError> {
    let name = path.display().to_string();
    let file = open(path).map_err(|error| read_error(&name, &error))?;
    all_of(&name, file)
}

fn all_of(name: &str, from: impl Read) -> Result<Vec<u8>, InputError> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| read_error(name, &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(InputError::TooLarge { name: name.to_owned(), limit: limit() });
    }
    Ok(bytes)
}

fn parse(name: &str, form: Form, from: impl Read) -> Result<Input, InputError> {
    let bytes = all_of(name, from)?;
    match form {
        Form::Lines => lines::parse(name, &bytes),
        Form::Jsonl => jsonl::parse(name, &bytes),
    }
}

fn read_error(name: &str, error: &io::Error) -> InputError {
    let message = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder; name a file".to_owned(),
        _ => error.to_string(),
    };
    InputError::Read { name: name.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none.txt");
        let text = read(&Source::at(&missing, Form::Lines)).unwrap_err().to_string();
        assert!(text.contains("none.txt: there is no such file"), "{text}");
        let text = read(&Source::at(folder.path(), Form::Lines)).unwrap_err().to_string();
        assert!(text.contains("it is a folder"), "{text}");
    }

    #[test]
    fn an_empty_argument_is_counted_from_one() {
        let source = Source::Arguments(vec!["a".into(), " ".into()]);
        assert_eq!(read(&source).unwrap_err().to_string(), "text 2 is empty; leave it out");
    }

    #[test]
    fn a_dash_is_standard_input() {
        assert_eq!(Source::at(Path::new("-"), Form::Jsonl), Source::Stdin(Form::Jsonl));
    }
}
