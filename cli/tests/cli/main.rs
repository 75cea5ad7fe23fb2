//! The command as its users see it: a real process, its outputs and its exit code.
//!
//! The coordinator is a fake in the test's own process that answers as the test tells it to.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod dev;
mod fake;
mod fleet;
mod help;
mod journal;
mod operating;
mod planning;
mod process;
mod reading;
mod submitting;
mod usage;
