//! Time for everyone to be heard, before silence is held against anyone.
//!
//! A coordinator that was not listening must not punish workers for it: after a start, a store that
//! could not be reached, or a pause of the whole process, every lease gets a full life first.

use std::time::Duration;

use crate::time::Timestamp;

/// Whether leases may be expired, or everyone has to be given time to be heard first.
///
/// Every `now` must come from the clock that leases are measured by. A jump of that clock then
/// looks like a pause, and is forgiven like one.
#[derive(Debug, Clone)]
pub struct Amnesty {
    lease: Duration,
    last_sweep: Option<Timestamp>,
}

impl Amnesty {
    /// Of a sweeper that begins; `lease` is the life of a lease without a heartbeat.
    pub const fn new(lease: Duration) -> Self {
        Self { lease, last_sweep: None }
    }

    /// At the first sweep, and when the last one that went through is half a lease ago.
    pub fn is_owed(&self, now: Timestamp) -> bool {
        self.last_sweep.is_none_or(|at| now.since(at) > self.lease / 2)
    }

    /// A sweep went through.
    pub const fn swept(&mut self, now: Timestamp) {
        self.last_sweep = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_millis(1_000_000);

    fn at(seconds: u64) -> Timestamp {
        START.after(Duration::from_secs(seconds))
    }

    #[test]
    fn amnesty_is_owed_at_the_start_and_after_a_pause() {
        let mut amnesty = Amnesty::new(Duration::from_secs(30));
        assert!(amnesty.is_owed(START));
        amnesty.swept(START);
        assert!(!amnesty.is_owed(at(1)));
        assert!(!amnesty.is_owed(at(15)));
        assert!(amnesty.is_owed(at(16)));
    }

    #[test]
    fn a_clock_that_runs_backwards_owes_nothing() {
        let mut amnesty = Amnesty::new(Duration::from_secs(30));
        amnesty.swept(at(100));
        assert!(!amnesty.is_owed(at(90)));
    }
}
