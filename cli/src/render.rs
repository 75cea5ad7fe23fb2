//! From the wire's messages to tables for people and documents for programs.

pub(crate) mod cost;
pub(crate) mod dead_letter;
pub(crate) mod explanation;
pub(crate) mod finding;
pub(crate) mod fleet;
pub(crate) mod job;
pub(crate) mod machine;
pub(crate) mod model;
pub(crate) mod money;
pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod queue;
pub(crate) mod state;
pub(crate) mod story;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod time;
pub(crate) mod ways;
pub(crate) mod worker;
