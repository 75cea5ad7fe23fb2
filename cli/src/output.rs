//! Results as files: one JSON value per line, or one array for numerical programs.

pub(crate) mod jsonl;
pub(crate) mod npy;
pub(crate) mod sink;
