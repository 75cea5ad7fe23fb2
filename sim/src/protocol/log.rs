//! What happened, as readable lines, and their hash.

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher as _};

use stoker_core::time::Timestamp;

/// Whether lines are kept besides being hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    Hash,
    Keep,
}

/// The log of one run. Two runs of a seed have the same log, which their hashes show.
#[derive(Debug)]
pub(super) struct Log {
    hasher: DefaultHasher,
    lines: Option<Vec<String>>,
}

/// Feeds text to a hasher without making a string of it.
struct Feed<'a>(&'a mut DefaultHasher);

impl fmt::Write for Feed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl Log {
    pub(super) fn new(trace: Trace) -> Self {
        let lines = (trace == Trace::Keep).then(Vec::new);
        // Its keys are fixed.
        Self { hasher: DefaultHasher::new(), lines }
    }

    pub(super) fn note(&mut self, now: Timestamp, line: fmt::Arguments<'_>) {
        let millis = now.as_unix_millis();
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>9}.{:03}  {line}", millis / 1_000, millis % 1_000));
        }
        // A hasher takes everything that is written.
        let _ = writeln!(Feed(&mut self.hasher), "{millis} {line}");
    }

    pub(super) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
