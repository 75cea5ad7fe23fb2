//! Fresh random identities and jitter; the types themselves live in `stoker_core::ids`.
//!
//! All of it comes from the operating system's random source through a cryptographic generator:
//! a lease token must not be guessable.

use stoker_core::ids::{ClaimId, EventId, JobId, LeaseToken, MachineId, WorkerId};
use stoker_core::time::Timestamp;
use uuid::{Builder, Uuid};

use crate::clock::{Clock as _, SystemClock};

/// A job id that sorts by `now` (UUID version 7: 48 bits of milliseconds, 74 random bits).
///
/// Times before 1970 count as 1970.
pub fn job_id(now: Timestamp) -> JobId {
    JobId::from_uuid(version_7(now))
}

/// The id of a machine that is about to be asked for. It sorts by `now`, as a job's does.
pub fn machine_id(now: Timestamp) -> MachineId {
    MachineId::from_uuid(version_7(now))
}

/// The id of one run of a worker process.
pub fn worker_id() -> WorkerId {
    WorkerId::from_uuid(version_4())
}

/// The id of one claim.
pub fn claim_id() -> ClaimId {
    ClaimId::from_uuid(version_4())
}

/// The id of one outbox event.
pub fn event_id() -> EventId {
    EventId::from_uuid(version_4())
}

/// A key under which a client's request is accepted once, however often it is sent.
///
/// It begins with the time, so that keys of about the same time are neighbors in the store's index:
/// with keys that are random from their first letter, each submit would write a page of its own.
pub fn idempotency_key() -> String {
    version_7(SystemClock::new().now()).to_string()
}

/// The secret half of a lease's fence: 128 random bits.
pub fn lease_token() -> LeaseToken {
    LeaseToken::from_bytes(rand::random())
}

/// A uniform value in `[0, 1)`, for `core`'s retry delays.
pub fn jitter() -> f64 {
    rand::random()
}

fn version_7(now: Timestamp) -> Uuid {
    let millis = u64::try_from(now.as_unix_millis()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}

fn version_4() -> Uuid {
    Builder::from_random_bytes(rand::random()).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn job_ids_sort_by_time_and_are_version_7() {
        let ids: Vec<_> =
            (0..100).map(|n| job_id(Timestamp::from_unix_millis(1_700_000_000_000 + n))).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids[0].as_uuid().get_version_num(), 7);
        assert_eq!(ids[0].as_uuid().get_timestamp().unwrap().to_unix().0, 1_700_000_000);
    }

    #[test]
    fn a_time_before_1970_still_gives_an_id() {
        let id = job_id(Timestamp::from_unix_millis(-5));
        assert_eq!(id.as_uuid().get_timestamp().unwrap().to_unix(), (0, 0));
    }

    #[test]
    fn ids_do_not_repeat() {
        let now = Timestamp::from_unix_millis(1);
        assert_eq!((0..1_000).map(|_| job_id(now)).collect::<BTreeSet<_>>().len(), 1_000);
        assert_eq!((0..1_000).map(|_| claim_id()).collect::<BTreeSet<_>>().len(), 1_000);
        assert_eq!(
            (0..1_000).map(|_| *lease_token().as_bytes()).collect::<BTreeSet<_>>().len(),
            1_000
        );
        assert_eq!(worker_id().as_uuid().get_version_num(), 4);
        assert_eq!(event_id().as_uuid().get_version_num(), 4);
    }

    #[test]
    fn jitter_stays_below_one() {
        assert!((0..10_000).map(|_| jitter()).all(|value| (0.0..1.0).contains(&value)));
    }
}
