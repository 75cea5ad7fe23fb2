//! The workers that the coordinator knows, as the ledger takes them: one for each machine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::v1;
use stoker_core::fleet::Notice;
use stoker_core::fleet::drift::Versions;
use stoker_core::fleet::ledger::{Presence, WorkerList, WorkerSeen};
use stoker_core::ids::{InstanceName, ModelName, PoolName, WorkerId};
use stoker_core::time::Timestamp;

/// What the coordinator answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Seen {
    /// One for each machine, and those that say of none.
    pub list: WorkerList,
    /// Jobs that a worker of a pool runs at a time, on average, where there is one.
    pub slots: BTreeMap<PoolName, f64>,
    /// Every worker of a machine: one for each of its GPUs.
    pub of_machine: BTreeMap<InstanceName, BTreeSet<WorkerId>>,
    /// The versions of those that are there.
    pub versions: Versions,
}

/// Reads an answer that came at `now`, by our clock; its times are the coordinator's,and are moved to ours.
///
/// # Errors
/// What cannot be used, in words.
pub fn workers_seen(answer: &v1::ListWorkersResponse, now: Timestamp) -> Result<Seen, String> {
    let observed = time(answer.observed_at.as_ref(), "observed_at")?;
    let ours = |at: Timestamp| {
        // What is between clocks is in both.
        if observed >= now { at.before(observed.since(now)) } else { at.after(now.since(observed)) }
    };
    let complete_since = ours(time(answer.complete_since.as_ref(), "complete_since")?);
    let mut seen = Seen::default();
    let mut machines: BTreeMap<InstanceName, WorkerSeen> = BTreeMap::new();
    for wire in &answer.workers {
        let worker = worker(wire, ours)?;
        let Some(instance) = worker.instance.clone() else {
            seen.list.workers.push(worker);
            continue;
        };
        if worker.presence != Presence::Lost {
            seen.of_machine.entry(instance.clone()).or_default().insert(worker.id);
            if !wire.version.is_empty() {
                let versions = seen.versions.entry(instance.clone()).or_default();
                versions.insert(wire.version.clone());
            }
        }
        match machines.remove(&instance) {
            Some(other) => machines.insert(instance, both(&other, &worker)),
            None => machines.insert(instance, worker),
        };
    }
    seen.list.workers.extend(machines.into_values());
    seen.list.complete_since = complete_since;
    Ok(seen)
}

fn time(wire: Option<&prost_types::Timestamp>, field: &str) -> Result<Timestamp, String> {
    let wire = wire.ok_or_else(|| format!("the coordinator's list of workers has no {field}"))?;
    super::timestamp(wire, field).map_err(|violation| violation.to_string())
}

fn worker(wire: &v1::Worker, ours: impl Fn(Timestamp) -> Timestamp) -> Result<WorkerSeen, String> {
    let id = super::worker_id(&wire.id, "id").map_err(|violation| violation.to_string())?;
    let instance = (!wire.instance.is_empty()).then(|| InstanceName::new(&wire.instance));
    let instance = instance.transpose().map_err(|error| format!("worker {id}: {error}"))?;
    let optional = |at: Option<&prost_types::Timestamp>, field| {
        at.map(|_| time(at, field).map(&ours)).transpose()
    };
    let lost_at = optional(wire.lost_at.as_ref(), "lost_at")?;
    let notice = match wire.notice() {
        v1::CloudNoticeKind::Unspecified => None,
        v1::CloudNoticeKind::Rebalance => Some(Notice::Rebalance),
        v1::CloudNoticeKind::Interruption => {
            let lost_at = lost_at.ok_or_else(|| format!("worker {id}: no lost_at"))?;
            Some(Notice::Interruption { lost_at })
        }
    };
    let presence = match wire.state() {
        v1::WorkerState::Starting => Presence::Starting,
        v1::WorkerState::Ready => Presence::Ready,
        // An operator's cordon can be lifted. One that the worker gave itself cannot, and says why.
        v1::WorkerState::Cordoned if wire.drain_cause() == v1::DrainCause::Unspecified => {
            Presence::Cordoned
        }
        // What this version does not know takes no work that is known of.
        v1::WorkerState::Cordoned | v1::WorkerState::Draining | v1::WorkerState::Unspecified => {
            Presence::Draining
        }
        v1::WorkerState::Lost => Presence::Lost,
    };
    let idle_since = optional(wire.idle_since.as_ref(), "idle_since")?;
    let warm = wire.resident_models.iter().filter_map(|name| ModelName::new(name).ok());
    let remaining = super::told_duration(wire.remaining.as_ref());
    Ok(WorkerSeen {
        id,
        machine: None,
        instance,
        presence,
        running: wire.busy_slots,
        idle_since: idle_since.filter(|_| wire.busy_slots == 0),
        seen_at: ours(time(wire.last_seen_at.as_ref(), "last_seen_at")?),
        notice,
        outdated: false,
        warm: warm.collect(),
        remaining,
    })
}

/// Two workers of one machine: it works while one of them does, and is only empty when both are.
fn both(a: &WorkerSeen, b: &WorkerSeen) -> WorkerSeen {
    // The one that stands for both is the one that is there, and has been for longer.
    let rank = |worker: &WorkerSeen| match worker.presence {
        Presence::Ready => 4,
        Presence::Starting => 3,
        Presence::Cordoned => 2,
        Presence::Draining => 1,
        Presence::Lost => 0,
    };
    let ((first, second), presence) =
        if rank(b) > rank(a) { ((b, a), b.presence) } else { ((a, b), a.presence) };
    let idle_since = a.idle_since.zip(b.idle_since).map(|(a, b)| a.max(b));
    let mut warm = first.warm.clone();
    warm.extend(second.warm.iter().filter(|model| !first.warm.contains(model)).cloned());
    // The machine is empty when both are. One that holds nothing need not tell.
    let left = |worker: &WorkerSeen| {
        if worker.running == 0 { Some(Duration::ZERO) } else { worker.remaining }
    };
    let remaining = left(a).zip(left(b)).map(|(a, b)| a.max(b));
    let notice = match (first.notice, second.notice) {
        (Some(Notice::Interruption { lost_at }), Some(Notice::Interruption { lost_at: other })) => {
            Some(Notice::Interruption { lost_at: lost_at.min(other) })
        }
        (interruption @ Some(Notice::Interruption { .. }), _)
        | (_, interruption @ Some(Notice::Interruption { .. })) => interruption,
        (one, other) => one.or(other),
    };
    WorkerSeen {
        id: first.id,
        machine: None,
        instance: first.instance.clone(),
        presence,
        // Also those of one that is cut off: it may well go on with them.
        running: a.running.saturating_add(b.running),
        idle_since,
        seen_at: a.seen_at.max(b.seen_at),
        notice,
        outdated: false,
        warm,
        remaining,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

    fn wire(at: Timestamp) -> prost_types::Timestamp {
        crate::convert::wire_timestamp(at)
    }

    fn answer(workers: Vec<v1::Worker>, ahead: Duration) -> v1::ListWorkersResponse {
        v1::ListWorkersResponse {
            workers,
            observed_at: Some(wire(NOW.after(ahead))),
            complete_since: Some(wire(NOW.after(ahead).before(Duration::from_mins(5)))),
        }
    }

    fn gpu(id: u8, busy_slots: u32, state: v1::WorkerState) -> v1::Worker {
        v1::Worker {
            id: WorkerId::from_bytes([id; 16]).to_string(),
            instance: "i-1".to_owned(),
            state: state.into(),
            busy_slots,
            resident_models: vec![format!("m-{id}")],
            last_seen_at: Some(wire(NOW)),
            idle_since: (busy_slots == 0).then(|| wire(NOW)),
            ..v1::Worker::default()
        }
    }

    fn only(answer: &v1::ListWorkersResponse) -> WorkerSeen {
        let mut seen = workers_seen(answer, NOW).unwrap();
        assert_eq!(seen.list.workers.len(), 1);
        seen.list.workers.remove(0)
    }

    #[test]
    fn a_machine_works_while_one_of_its_workers_does() {
        let ready = v1::WorkerState::Ready;
        let both = answer(vec![gpu(1, 0, ready), gpu(2, 3, ready)], Duration::ZERO);
        let seen = only(&both);
        assert_eq!((seen.running, seen.idle_since, seen.presence), (3, None, Presence::Ready));
        assert_eq!(seen.warm.len(), 2);
        let machine = InstanceName::new("i-1").unwrap();
        assert_eq!(workers_seen(&both, NOW).unwrap().of_machine[&machine].len(), 2);

        let idle = answer(vec![gpu(1, 0, ready), gpu(2, 0, ready)], Duration::ZERO);
        assert_eq!((only(&idle).running, only(&idle).idle_since), (0, Some(NOW)));
        let one_drains = vec![gpu(1, 0, v1::WorkerState::Draining), gpu(2, 0, ready)];
        assert_eq!(only(&answer(one_drains, Duration::ZERO)).presence, Presence::Ready);
        let one_kept =
            vec![gpu(1, 0, v1::WorkerState::Draining), gpu(2, 0, v1::WorkerState::Cordoned)];
        assert_eq!(only(&answer(one_kept, Duration::ZERO)).presence, Presence::Cordoned);
        let one_lost = vec![gpu(1, 4, v1::WorkerState::Lost), gpu(2, 0, ready)];
        let seen = only(&answer(one_lost, Duration::ZERO));
        assert_eq!((seen.running, seen.idle_since), (4, None), "it may go on with them");
    }

    #[test]
    fn a_machine_has_as_much_left_to_do_as_the_worker_that_has_the_most() {
        let of = |id, busy, seconds: Option<i64>| {
            let remaining = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
            v1::Worker { remaining, ..gpu(id, busy, v1::WorkerState::Ready) }
        };
        let left = |workers: Vec<v1::Worker>| {
            only(&answer(workers, Duration::ZERO)).remaining.map(|left| left.as_secs())
        };
        assert_eq!(left(vec![of(1, 2, Some(30))]), Some(30));
        assert_eq!(left(vec![of(1, 2, Some(-30))]), None, "no time is not zero");
        assert_eq!(left(vec![of(1, 2, Some(30)), of(2, 1, Some(90))]), Some(90));
        assert_eq!(left(vec![of(1, 2, Some(30)), of(2, 1, None)]), None, "one does not tell");
        assert_eq!(left(vec![of(1, 2, Some(30)), of(2, 0, None)]), Some(30), "one has nothing");
    }

    #[test]
    fn an_operators_cordon_is_told_from_one_that_a_worker_gave_itself() {
        let cordoned = |cause: v1::DrainCause| {
            let mut worker = gpu(1, 0, v1::WorkerState::Cordoned);
            worker.drain_cause = cause.into();
            only(&answer(vec![worker], Duration::ZERO)).presence
        };
        assert_eq!(cordoned(v1::DrainCause::Unspecified), Presence::Cordoned);
        for cause in [v1::DrainCause::Device, v1::DrainCause::Rebalance] {
            assert_eq!(cordoned(cause), Presence::Draining, "{cause:?}");
        }
    }

    #[test]
    fn a_machine_has_the_versions_of_its_workers_that_are_there() {
        let of = |id, version: &str, state| {
            let version = version.to_owned();
            v1::Worker { version, ..gpu(id, 0, state) }
        };
        let (ready, lost) = (v1::WorkerState::Ready, v1::WorkerState::Lost);
        let workers = vec![of(1, "2.0", ready), of(2, "1.9", ready), of(3, "1.0", lost)];
        let seen = workers_seen(&answer(workers, Duration::ZERO), NOW).unwrap();
        let machine = InstanceName::new("i-1").unwrap();
        assert_eq!(seen.versions[&machine], ["1.9", "2.0"].map(str::to_owned).into());
        let says_none = answer(vec![of(1, "", ready)], Duration::ZERO);
        assert!(workers_seen(&says_none, NOW).unwrap().versions.is_empty());
    }

    #[test]
    fn times_are_moved_to_our_clock() {
        let ahead = Duration::from_hours(1);
        let mut worker = gpu(1, 0, v1::WorkerState::Ready);
        worker.last_seen_at = Some(wire(NOW.after(ahead).before(Duration::from_secs(3))));
        let answer = answer(vec![worker], ahead);
        assert_eq!(only(&answer).seen_at, NOW.before(Duration::from_secs(3)));
        let complete_since = workers_seen(&answer, NOW).unwrap().list.complete_since;
        assert_eq!(complete_since, NOW.before(Duration::from_mins(5)));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_no_list() {
        let mut bad = answer(vec![gpu(1, 0, v1::WorkerState::Ready)], Duration::ZERO);
        bad.workers[0].instance = "not a name\n".to_owned();
        assert!(workers_seen(&bad, NOW).unwrap_err().contains("worker"));
        bad.workers.clear();
        bad.complete_since = None;
        assert!(workers_seen(&bad, NOW).unwrap_err().contains("complete_since"));
    }
}
