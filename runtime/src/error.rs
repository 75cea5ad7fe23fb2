//! Errors as people read them.

use std::error::Error;

/// An error and its causes on one line: `what we were doing: why it failed: why that failed`.
pub fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
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
}
