//! Bugs on purpose, each of which the checks have to find.
//!
//! The simulated shells consult this, never the rules: no build of a service holds any of it.

/// One seeded bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    NoTokenCheck,
    StaleProgress,
    StaleFailure,
    CompletionOverwrites,
    AnswerBeforeCommit,
    NoMandatory,
    OutboxClearedFirst,
    OutboxNeverResent,
    NoAmnesty,
    NoSweeper,
    ClaimForgotten,
    KeyIgnored,
    CancelWithoutRevoking,
    NoTenantFilter,
    RetryAtOnce,
    FailuresNotCounted,
    ReleaseCountsAsFailure,
    RequeueOnRefusal,
    OneConnection,
    RedispatchWithoutBound,
    FirstComeFirstServed,
    NoAdmission,
    ForgetUnanswered,
    CrashedBatchTogether,
    CheckpointLost,
    OldLeaderWrites,
    AmnestyByAnotherClock,
    InputsMixedUp,
    StoredPartsForgotten,
    DeadlineEndsEnded,
    DeadlineWaitsForQueue,
}

impl Sabotage {
    pub const ALL: [Self; 31] = [
        Self::NoTokenCheck,
        Self::StaleProgress,
        Self::StaleFailure,
        Self::CompletionOverwrites,
        Self::AnswerBeforeCommit,
        Self::NoMandatory,
        Self::OutboxClearedFirst,
        Self::OutboxNeverResent,
        Self::NoAmnesty,
        Self::NoSweeper,
        Self::ClaimForgotten,
        Self::KeyIgnored,
        Self::CancelWithoutRevoking,
        Self::NoTenantFilter,
        Self::RetryAtOnce,
        Self::FailuresNotCounted,
        Self::ReleaseCountsAsFailure,
        Self::RequeueOnRefusal,
        Self::OneConnection,
        Self::RedispatchWithoutBound,
        Self::FirstComeFirstServed,
        Self::NoAdmission,
        Self::ForgetUnanswered,
        Self::CrashedBatchTogether,
        Self::CheckpointLost,
        Self::OldLeaderWrites,
        Self::AmnestyByAnotherClock,
        Self::InputsMixedUp,
        Self::StoredPartsForgotten,
        Self::DeadlineEndsEnded,
        Self::DeadlineWaitsForQueue,
    ];

    /// What is wrong, for tables.
    pub const fn what(self) -> &'static str {
        match self {
            Self::NoTokenCheck => "reports are heard whatever token they show",
            Self::StaleProgress => "progress and hand-backs of an old attempt count",
            Self::StaleFailure => "the failure of an old attempt counts",
            Self::CompletionOverwrites => "a later completion replaces the result",
            Self::AnswerBeforeCommit => "a submit is answered before its commit",
            Self::NoMandatory => "an unroutable message counts as confirmed",
            Self::OutboxClearedFirst => "the outbox is cleared before the publish",
            Self::OutboxNeverResent => "what stays in the outbox is not sent again",
            Self::NoAmnesty => "a coordinator that was away expires leases at once",
            Self::NoSweeper => "nobody sweeps",
            Self::ClaimForgotten => "a repeated claim begins another attempt",
            Self::KeyIgnored => "idempotency keys are ignored",
            Self::CancelWithoutRevoking => "a cancel leaves the running attempt its right",
            Self::NoTenantFilter => "tenants see each other's jobs",
            Self::RetryAtOnce => "retries do not wait",
            Self::FailuresNotCounted => "failures are not counted",
            Self::ReleaseCountsAsFailure => "a hand-back counts as a failure of the job",
            Self::RequeueOnRefusal => "a refused delivery goes back to its queue",
            Self::OneConnection => "publishes and acknowledgments share a connection",
            Self::RedispatchWithoutBound => "every sweep sends every message again",
            Self::FirstComeFirstServed => "the oldest job goes first, whoever's it is",
            Self::NoAdmission => "jobs are accepted without limit",
            Self::ForgetUnanswered => "a worker forgets a report that nobody answered",
            Self::CrashedBatchTogether => "the members of a crashed batch run together again",
            Self::CheckpointLost => "a checkpoint is answered but not stored",
            Self::OldLeaderWrites => "a coordinator that leads no more goes on writing",
            Self::AmnestyByAnotherClock => "silence is measured by another clock than leases",
            Self::InputsMixedUp => "a grant carries the input of another job",
            Self::StoredPartsForgotten => "a new attempt begins without what is stored",
            Self::DeadlineEndsEnded => "a deadline ends a job that has ended",
            Self::DeadlineWaitsForQueue => "a deadline waits for the look at the job's queue",
        }
    }

    /// Name on the command line.
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}
