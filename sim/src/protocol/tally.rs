//! How often the faults bit. A run in which nothing went wrong proves nothing.

use std::collections::BTreeMap;

macro_rules! bites {
    ($($name:ident = $least:literal, $text:literal;)+) => {
        /// Something that only a fault brings about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bite {
            $(#[doc = $text] $name,)+
        }

        impl Bite {
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// For tables.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// How often it must have happened in a thousand seeds, so that they count.
            pub const fn least(self) -> u64 {
                match self { $(Self::$name => $least,)+ }
            }
        }
    };
}

bites! {
    Redelivered = 500, "deliveries that came again";
    Resent = 500, "rows of the outbox sent again";
    Redispatched = 200, "messages sent anew because nobody claimed them";
    Unroutable = 50, "publishes without a queue";
    Unconfirmed = 200, "publishes without a confirm";
    LostMessages = 200, "messages that the broker lost";
    RefusedClaims = 500, "claims refused as busy, stale or terminal";
    RepeatedGrants = 50, "grants given again to the same claim";
    UnknownAnswers = 500, "calls whose callers do not know what became of them";
    InDoubt = 50, "commits whose outcome the coordinator does not know";
    ExpiredLeases = 500, "leases that expired";
    Amnesties = 200, "leases that got a full life after a silence";
    FencedReports = 100, "reports of attempts that were no longer current";
    LateSuccesses = 10, "results of an earlier attempt that won";
    LateResults = 20, "results that came after the job had ended";
    FailedAttempts = 500, "attempts that failed with an error";
    CrashedEngines = 200, "engines that died";
    HandedBack = 200, "attempts handed back";
    Resumed = 200, "attempts that went on where another had stopped";
    Spooled = 50, "results kept in a file and delivered later";
    ForgedReports = 200, "reports with a wrong token";
    CancelledRunning = 50, "cancels of running jobs";
    Expired = 20, "jobs whose deadline passed";
    DeadLetters = 100, "jobs that failed for good";
    Retried = 50, "jobs made of failed ones";
    Shed = 20, "submits refused for lack of room";
    SameKey = 100, "submits repeated with the same key";
    Terms = 100, "changes of the leader";
}

/// Counts of one run or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<Bite, u64>);

impl Tally {
    pub(super) fn add(&mut self, bite: Bite, count: u64) {
        *self.0.entry(bite).or_default() += count;
    }

    pub fn get(&self, bite: Bite) -> u64 {
        self.0.get(&bite).copied().unwrap_or(0)
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (bite, count) in &other.0 {
            self.add(*bite, *count);
        }
    }

    /// What happened too rarely for this many seeds. Empty under a hundred seeds, which are too few
    /// to tell.
    pub fn too_rare(&self, seeds: u64) -> Vec<(Bite, u64)> {
        let least = |bite: Bite| if seeds < 100 { 0 } else { bite.least() * seeds / 1_000 };
        let rare = Bite::ALL.iter().filter(|bite| self.get(**bite) < least(**bite));
        rare.map(|bite| (*bite, least(*bite))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_whose_faults_did_not_bite_is_told_so() {
        let mut tally = Tally::default();
        for bite in Bite::ALL {
            tally.add(*bite, bite.least());
        }
        assert_eq!(tally.too_rare(1_000), []);
        assert_eq!(tally.too_rare(10_000).len(), Bite::ALL.len());
        // Too few seeds to tell.
        assert_eq!(Tally::default().too_rare(99), []);
        let none = Tally::default().too_rare(1_000);
        assert_eq!(none.len(), Bite::ALL.len());
    }
}
