//! The stoker command.
