//! Bugs on purpose, each of which the referee has to find. The shells consult this, never the rules.

/// One seeded bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    LaunchBeforeIntent,
    NewTokenEachCall,
    UnknownIsFailed,
    NoEpochCheck,
    ReaperWithoutGrace,
    NoReaper,
    NoCaps,
    AbsentIsGone,
    DrainWithoutDeadline,
    TerminateOnce,
    NoPauses,
}

impl Sabotage {
    pub const ALL: [Self; 11] = [
        Self::LaunchBeforeIntent,
        Self::NewTokenEachCall,
        Self::UnknownIsFailed,
        Self::NoEpochCheck,
        Self::ReaperWithoutGrace,
        Self::NoReaper,
        Self::NoCaps,
        Self::AbsentIsGone,
        Self::DrainWithoutDeadline,
        Self::TerminateOnce,
        Self::NoPauses,
    ];

    /// Name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LaunchBeforeIntent => "launch-before-intent",
            Self::NewTokenEachCall => "new-token-each-call",
            Self::UnknownIsFailed => "unknown-is-failed",
            Self::NoEpochCheck => "no-epoch-check",
            Self::ReaperWithoutGrace => "reaper-without-grace",
            Self::NoReaper => "no-reaper",
            Self::NoCaps => "no-caps",
            Self::AbsentIsGone => "absent-is-gone",
            Self::DrainWithoutDeadline => "drain-without-deadline",
            Self::TerminateOnce => "terminate-once",
            Self::NoPauses => "no-pauses",
        }
    }

    pub const fn what(self) -> &'static str {
        match self {
            Self::LaunchBeforeIntent => "the provider is called before the intent is written",
            Self::NewTokenEachCall => "a call that is repeated has another client token",
            Self::UnknownIsFailed => "a call without an answer counts as a launch that failed",
            Self::NoEpochCheck => "the ledger takes writes of leaders of the past",
            Self::ReaperWithoutGrace => {
                "a machine that a ledger read before it lacks is ended at once"
            }
            Self::NoReaper => "machines that no entry knows of are left alone",
            Self::NoCaps => "caps are not checked when the plan is carried out",
            Self::AbsentIsGone => "a machine that one listing lacks is gone",
            Self::DrainWithoutDeadline => "a machine ends as soon as it is to be drained",
            Self::TerminateOnce => "a terminate that failed is not repeated",
            Self::NoPauses => "it is forgotten that launches failed",
        }
    }
}
