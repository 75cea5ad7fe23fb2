//! Errors as people read them.

use std::error::Error;

/// An error and its causes on one line: `what we were doing: why it failed: why that failed`. A cause that
/// its error repeats in its own text is said once.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |&cause| cause.source()) {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading the file")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_the_error() {
        let error = Outer(std::io::Error::other("the disk is gone"));
        assert_eq!(chain(&error), "reading the file: the disk is gone");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("reading the file: {0}")]
    struct Repeats(#[source] std::io::Error);

    #[test]
    fn a_repeated_cause_is_said_once() {
        let error = Repeats(std::io::Error::other("the disk is gone"));
        assert_eq!(chain(&error), "reading the file: the disk is gone");
    }
}
