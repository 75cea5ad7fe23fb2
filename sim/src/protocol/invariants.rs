//! What must hold, whatever dies.
//!
//! The numbers up to I14 are those of the project's list of invariants; what a simulation cannot
//! show (resources, recovery times, real files) is left to the tests with real processes. The P
//! invariants are steps of the protocol that keep delays short and queues calm, where the I
//! invariants alone would be saved by another step.

use std::fmt;

macro_rules! invariants {
    ($($name:ident = $number:literal, $text:literal;)+) => {
        /// One invariant.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Invariant {
            $(#[doc = $text] $name,)+
        }

        impl Invariant {
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its number, such as `I3`.
            pub const fn number(self) -> &'static str {
                match self { $(Self::$name => $number,)+ }
            }

            /// What must hold.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

invariants! {
    AcceptedIsKept = "I1", "a job that was answered as accepted exists from then on";
    NothingUnexpected = "I2", "no job exists that no client submitted; one key is one job";
    OneResult = "I3", "all readers see the same result, which never changes";
    RightContent = "I4", "the result is that of the job's own input";
    TerminalAbsorbs = "I5", "a history is a path of the state machine; ended jobs stay as they are; a result is whole";
    AttemptsIncrease = "I6", "attempts strictly increase, and a job has one live lease at most";
    StaleIsFenced = "I7", "a report of an attempt that is not current changes nothing, but for a success";
    ExecutionsAreBounded = "I8", "a job runs once, and once more only after a fault that touched it";
    WorkIsKept = "I9", "an attempt begins where the acknowledged checkpoints end";
    NoLateResult = "I10", "a cancelled or expired job has no result";
    NothingWaitsForEver = "I11", "after healing every job ends, and every caller is answered";
    NothingIsLeft = "I12", "after the end, queues and outbox are empty and nothing is unacknowledged";
    BudgetsHold = "I13", "budgets count what they say, poison ends in time, and harms nobody else";
    TenantsAreApart = "I14", "no tenant sees another's job, and none gets a place that is another's share";
    OnlyTakenIsCleared = "P1", "a message leaves the outbox only after the broker has put it into a queue";
    RefusalsEnd = "P2", "a message returns to its queue only when its consumer ends";
    RedispatchIsRare = "P3", "a message is sent again only if unconfirmed, or unclaimed for long";
    AcksGetThrough = "P4", "a broker that takes no messages still takes acknowledgments";
    RetriesWait = "P5", "a retry waits as long as the policy says";
    RoomIsLimited = "P6", "no tenant and no fleet has more open jobs than its limit";
    OneLeader = "P7", "what only the leader may write is written in its present term";
    DeadlinesAreKept = "P8", "a sweep leaves no open job whose deadline has passed";
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.number(), self.text())
    }
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub invariant: Invariant,
    /// What was seen instead.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -- but {}", self.invariant, self.seen)
    }
}
