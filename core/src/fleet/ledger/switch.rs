//! The operators' switch: what the autoscaler may do at all.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What the autoscaler may do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// What the planner wants, within the caps.
    #[default]
    Run,
    /// No launches, drains or terminations, but of machines whose end an operator has ordered; what happens by itself is
    /// written down.
    Freeze,
    /// All machines go, each once its work is done or its time is up.
    Drain,
    /// All machines end at once, whatever they do.
    Panic,
}

/// The switch, who set it and why.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Switch {
    pub mode: Mode,
    /// How often it was set. What was decided under another version is not written.
    pub version: u64,
    pub by: String,
    pub why: String,
    pub set_at: Timestamp,
}

impl Mode {
    pub const ALL: [Self; 4] = [Self::Run, Self::Freeze, Self::Drain, Self::Panic];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Freeze => "freeze",
            Self::Drain => "drain",
            Self::Panic => "panic",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
