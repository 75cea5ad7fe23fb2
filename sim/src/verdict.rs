//! What a command of a simulation has to say.

/// Text for people, and whether all is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub text: String,
    pub is_well: bool,
}
