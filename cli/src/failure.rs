//! Why the command ends without success, in words for whoever typed it.

use std::io::{self, Write};

use crate::exit::Exit;
use crate::render::text::clean;

/// An exit code with what to say: what was wrong first, then what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    exit: Exit,
    /// Empty: say nothing.
    lines: Vec<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, lines: vec![message.into()] }
    }

    /// The operation failed, or a job did.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// What was typed, or a file that it names, cannot be used.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The reader of standard output went away: there is nobody to tell.
    pub(crate) const fn broken_pipe() -> Self {
        Self::reported(Exit::BrokenPipe)
    }

    /// Ends with this code; what there was to say has been said.
    pub(crate) const fn reported(exit: Exit) -> Self {
        Self { exit, lines: Vec::new() }
    }

    /// Adds a line that says more, or what to do.
    #[must_use]
    pub(crate) fn hint(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Adds lines that say more.
    #[must_use]
    pub(crate) fn hints(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.lines.extend(lines);
        self
    }

    /// What was wrong, without what to do about it.
    pub(crate) fn message(&self) -> &str {
        self.lines.first().map_or("", String::as_str)
    }

    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// What [`Failure::report`] writes.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (index, line) in self.lines.iter().enumerate() {
            text.push_str(if index == 0 { "error: " } else { "  " });
            text.push_str(&clean(line));
            text.push('\n');
        }
        text
    }

    /// Writes it to standard error. If even that fails there is nobody to tell.
    pub(crate) fn report(&self) {
        let _ = io::stderr().lock().write_all(self.text().as_bytes());
    }
}

/// Writing to standard output failed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::broken_pipe(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::failed("cannot write to standard output: the disk is full; free some space")
            }
            _ => Self::failed(format!("cannot write to standard output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_comes_first_and_hints_are_indented() {
        let failure = Failure::usage("nothing to submit").hint("give texts");
        assert_eq!(failure.text(), "error: nothing to submit\n  give texts\n");
    }

    #[test]
    fn a_broken_pipe_is_silent() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit(), Exit::BrokenPipe);
        assert_eq!(failure.text(), "");
    }

    #[test]
    fn text_from_the_other_side_cannot_control_the_terminal() {
        assert_eq!(Failure::failed("a\x1b[31mb").text(), "error: a\\x1b[31mb\n");
    }
}
