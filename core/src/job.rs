//! A job's life: its states, what can happen to it, and what follows.
//!
//! [`apply`] is the only place where a job changes state. It is total: an event that has no place
//! in a state is refused with a [`Refusal`], never ignored and never a panic. The store loads a
//! [`Job`], applies an event and writes the outcome in one transaction.

mod amnesty;
mod bells;
mod claim;
mod ending;
mod event;
mod record;
mod report;
mod state;
mod timer;
mod transition;

#[cfg(test)]
mod tests;

pub use amnesty::Amnesty;
pub use bells::Bells;
pub use claim::{ClaimAnswer, ClaimRefusal, answer_claim};
pub use ending::{AttemptEnd, attempt_ends};
pub use event::{AttemptError, Effect, Event, FailureKind, ReleaseReason};
pub use record::{AttemptOutcome, AttemptRecord, JobRecord};
pub use report::{
    Append, CompletionPlan, Issued, Span, answer_completion, answer_progress, answer_release,
    is_current,
};
pub use state::{Budgets, Failure, FailureReason, Job, Lease, State, StateKind};
pub use timer::{due_event, next_due};
pub use transition::{Refusal, Transition, apply};
