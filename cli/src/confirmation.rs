//! Asking a person before something that cannot be taken back.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::clean;

/// Goes on only if `word` is typed. `what` is what will be done, such as `discard 3 dead letters`.
///
/// # Errors
/// There is nobody to ask, or something else was typed: nothing is to be done.
pub(crate) fn confirm(what: &str, word: &str) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage(format!("refusing to {what} without being told to"))
            .hint("add --yes if that is what you mean"));
    }
    // Where standard error cannot be written to, the question is not seen and not answered.
    let _ = write!(std::io::stderr(), "{}? Type {word}: ", clean(what));
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == word {
        Ok(())
    } else {
        Err(Failure::new(Exit::Interrupted, "nothing was done"))
    }
}
