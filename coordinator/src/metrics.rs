//! Names, labels and meaning of everything the coordinator counts.

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

use crate::store::Change;

const TRANSITIONS: &str = "stoker_coordinator_transitions_total";
const COMMIT_SECONDS: &str = "stoker_coordinator_store_commit_seconds";
const COMMITTED_CALLS: &str = "stoker_coordinator_store_calls_total";
const PUBLISHED: &str = "stoker_coordinator_published_total";
const SWEPT: &str = "stoker_coordinator_timers_total";
const WAIT_SECONDS: &str = "stoker_coordinator_wait_seconds";

/// Registers the descriptions; call once per process, after the recorder is installed.
pub fn describe() {
    describe_counter!(PUBLISHED, "Messages handed to the broker, by outcome");
    describe_counter!(SWEPT, "Timers of jobs that ran out: leases, retries, deadlines");
    describe_counter!(COMMITTED_CALLS, "Calls that changed the store");
    describe_histogram!(
        COMMIT_SECONDS,
        Unit::Seconds,
        "Time of a commit with all calls that shared it"
    );
    describe_counter!(TRANSITIONS, "Changes of state of jobs, by the state they went to");
    describe_histogram!(
        WAIT_SECONDS,
        Unit::Seconds,
        "Time from acceptance to the first start of execution, by model"
    );
}

/// Counts one committed change.
pub(crate) fn changed(change: &Change) {
    if change.from != Some(change.to) {
        counter!(TRANSITIONS, "state" => change.to.name()).increment(1);
    }
    if let Some(waited) = change.waited {
        let model = change.lane.model.to_string();
        histogram!(WAIT_SECONDS, "model" => model).record(waited.as_secs_f64());
    }
}

/// Counts one commit of the store and the calls that shared it.
pub(crate) fn committed(calls: usize, took: std::time::Duration) {
    histogram!(COMMIT_SECONDS).record(took.as_secs_f64());
    counter!(COMMITTED_CALLS).increment(calls as u64);
}

/// Counts messages that the broker confirmed, and those that it did not.
pub(crate) fn published(confirmed: usize, unconfirmed: usize) {
    counter!(PUBLISHED, "outcome" => "confirmed").increment(confirmed as u64);
    counter!(PUBLISHED, "outcome" => "unconfirmed").increment(unconfirmed as u64);
}

/// Counts timers that ran out.
pub(crate) fn swept(jobs: u32) {
    counter!(SWEPT).increment(u64::from(jobs));
}
