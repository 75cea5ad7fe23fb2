//! What is to be submitted: read from arguments, files and pipes, checked, and named in errors.

mod files;
mod jsonl;
mod lines;
mod source;

use std::collections::BTreeMap;

use bytes::Bytes;

pub(crate) use files::{read_images, read_recordings};
pub(crate) use source::{Form, Source, read, read_bytes};

/// Items that belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Group<T = String> {
    pub(crate) items: Vec<T>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// Everything that one command was given, as items of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input<T = String> {
    /// What has no grouping of its own: the command decides how many make a job.
    pub(crate) loose: Vec<T>,
    /// What the input itself makes one job of.
    pub(crate) groups: Vec<Group<T>>,
    /// Empty lines that were left out.
    pub(crate) skipped: u64,
}

impl<T> Default for Input<T> {
    fn default() -> Self {
        Self { loose: Vec::new(), groups: Vec::new(), skipped: 0 }
    }
}

impl<T> Input<T> {
    /// Number of items.
    pub(crate) fn items(&self) -> usize {
        self.loose.len() + self.groups.iter().map(|group| group.items.len()).sum::<usize>()
    }
}

/// What the items of a command are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Texts(Input),
    /// The bytes of images or recordings.
    Files(Input<Bytes>),
}

/// Input that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InputError {
    #[error(
        "{name}:{line}: not UTF-8 text at byte {offset} of the file; convert it, for example with `iconv -f latin1 -t utf-8`"
    )]
    NotUtf8 { name: String, line: usize, offset: usize },
    #[error("{name}:{line}:{column}: not JSON: {message}")]
    NotJson { name: String, line: usize, column: usize, message: String },
    #[error("{name}:{line}: {message}")]
    Form { name: String, line: usize, message: String },
    #[error("{name} has no text: every line is empty")]
    OnlyEmpty { name: String },
    #[error("{name} is empty")]
    Empty { name: String },
    #[error("text {position} is empty; leave it out")]
    EmptyArgument { position: usize },
    #[error("{name} is larger than {limit}; split it, for example with `split -l 100000`")]
    TooLarge { name: String, limit: String },
    #[error("the files have more than {limit} together; submit some of them at a time")]
    TooManyFiles { limit: String },
    #[error("cannot read {name}: {message}")]
    Read { name: String, message: String },
}

/// Splits into lines without their ends, numbered from 1, each checked to be UTF-8.
///
/// A byte order mark at the start is no part of the text.
fn utf8_lines<'a>(
    name: &'a str,
    bytes: &'a [u8],
) -> impl Iterator<Item = Result<(usize, &'a str), InputError>> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    let start = if bytes.starts_with(MARK) { MARK.len() } else { 0 };
    let mut offset = start;
    bytes[start..].split_inclusive(|byte| *byte == b'\n').enumerate().map(move |(index, raw)| {
        let line = index + 1;
        let begin = offset;
        offset += raw.len();
        match std::str::from_utf8(raw) {
            Ok(text) => {
                let text = text.strip_suffix('\n').unwrap_or(text);
                Ok((line, text.strip_suffix('\r').unwrap_or(text)))
            }
            Err(error) => Err(InputError::NotUtf8 {
                name: name.to_owned(),
                line,
                offset: begin + error.valid_up_to(),
            }),
        }
    })
}

/// An input without a single text is a mistake, not a job.
fn not_empty(name: &str, bytes: &[u8], input: Input) -> Result<Input, InputError> {
    if input.items() > 0 {
        Ok(input)
    } else if bytes.is_empty() {
        Err(InputError::Empty { name: name.to_owned() })
    } else {
        Err(InputError::OnlyEmpty { name: name.to_owned() })
    }
}
