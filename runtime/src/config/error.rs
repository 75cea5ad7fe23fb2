//! Configuration errors: where, what, and what was probably meant.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::ByteSize;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}: larger than {limit}; is this the right file?", path.display())]
    TooLarge { path: PathBuf, limit: ByteSize },
    #[error("{}:{line}: the file is not UTF-8 text", path.display())]
    NotUtf8 { path: PathBuf, line: usize },
    /// The text is not TOML, has an unknown key, or a value of the wrong form.
    #[error(
        "{origin}{}: {}{message}{}",
        position.map(|position| format!(":{position}")).unwrap_or_default(),
        key.as_ref().map(|key| format!("in `{key}`: ")).unwrap_or_default(),
        suggestion.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
    )]
    Invalid {
        /// The file, or what stands for it.
        origin: String,
        position: Option<Position>,
        /// Where in the tree, such as `pools[0].min-workers`.
        key: Option<String>,
        message: String,
        suggestion: Option<String>,
    },
    #[error("cannot lay the flags and the environment over the configuration file")]
    Merge {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A place in a text. Both count from 1; columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl ConfigError {
    pub(super) fn from_toml(
        text: &str,
        origin: &str,
        key: Option<String>,
        error: &toml::de::Error,
    ) -> Self {
        Self::Invalid {
            origin: origin.to_owned(),
            position: error.span().map(|span| position(text, &span)),
            key: key.filter(|key| !key.is_empty() && key != "."),
            message: one_line(error.message()),
            suggestion: suggestion(error.message()),
        }
    }

    pub(super) fn from_merged(
        path: &Path,
        error: serde_path_to_error::Error<toml::de::Error>,
    ) -> Self {
        let key = error.path().to_string();
        let origin = format!("{} with flags and environment", path.display());
        Self::from_toml("", &origin, Some(key), &error.into_inner())
    }
}

/// The line on which `before` ends, counted from 1.
pub(super) fn line_of(before: &[u8]) -> usize {
    before.split(|byte| *byte == b'\n').count()
}

fn position(text: &str, span: &Range<usize>) -> Position {
    let before = text.get(..span.start).unwrap_or(text);
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    Position { line: line_of(before.as_bytes()), column: 1 + last_line.chars().count() }
}

/// Parser messages span lines; a log line does not.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What was probably meant, from serde's "unknown field `x`, expected one of `a`, `b`".
fn suggestion(message: &str) -> Option<String> {
    let unknown = ["unknown field ", "unknown variant "];
    let rest = unknown.iter().find_map(|start| message.strip_prefix(start))?;
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let written = quoted.next()?;
    let normal = |name: &str| name.to_lowercase().replace('_', "-");
    let distance = |name: &str| strsim::damerau_levenshtein(&normal(written), &normal(name));
    let (distance, name) = quoted.map(|name| (distance(name), name)).min()?;
    // A third of the letters wrong is a typo; more is another word.
    (distance <= written.chars().count().div_ceil(3)).then(|| name.to_owned())
}
