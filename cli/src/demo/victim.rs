//! Which worker process is killed: one of ours that holds leases. Pure.

use std::collections::BTreeMap;

use stoker_proto::v1;

/// A process to kill, and what it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Victim {
    pub(crate) name: String,
    pub(crate) pid: u32,
    /// Jobs that it holds leases on.
    pub(crate) jobs: Vec<String>,
    /// Items of these jobs whose results are stored, and all of them.
    pub(crate) items_done: u64,
    pub(crate) items_total: u64,
}

/// The process that holds the most leases; `None` if none of `ours` holds any now.
pub(crate) fn choose<'a>(
    jobs: impl Iterator<Item = &'a v1::Job>,
    workers: &[v1::Worker],
    ours: &BTreeMap<String, u32>,
) -> Option<Victim> {
    let mut held: BTreeMap<&str, Vec<&v1::Job>> = BTreeMap::new();
    for job in jobs.filter(|job| job.state == v1::JobState::Leased as i32) {
        held.entry(job.worker_id.as_str()).or_default().push(job);
    }
    let candidates = held.into_iter().filter_map(|(worker_id, jobs)| {
        let pid = workers.iter().find(|worker| worker.id == worker_id)?.pid;
        let (name, _) = ours.iter().find(|(_, ours)| **ours == pid)?;
        Some(Victim {
            name: name.clone(),
            pid,
            items_done: jobs.iter().map(|job| u64::from(job.items_done)).sum(),
            items_total: jobs.iter().map(|job| u64::from(job.items_total)).sum(),
            jobs: jobs.iter().map(|job| job.id.clone()).collect(),
        })
    });
    candidates.max_by_key(|victim| victim.jobs.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leased(id: &str, worker: &str) -> v1::Job {
        v1::Job {
            id: id.into(),
            worker_id: worker.into(),
            state: v1::JobState::Leased as i32,
            items_total: 500,
            items_done: 100,
            ..v1::Job::default()
        }
    }

    fn worker(id: &str, pid: u32) -> v1::Worker {
        v1::Worker { id: id.into(), pid, ..v1::Worker::default() }
    }

    #[test]
    fn the_busiest_of_our_own_is_chosen() {
        let jobs = [leased("a", "w1"), leased("b", "w2"), leased("c", "w2"), leased("d", "w3")];
        let workers = [worker("w1", 10), worker("w2", 20), worker("w3", 30)];
        let ours = BTreeMap::from([("worker-1".to_owned(), 10), ("worker-2".to_owned(), 20)]);
        let victim = choose(jobs.iter(), &workers, &ours).unwrap();
        assert_eq!((victim.name.as_str(), victim.pid), ("worker-2", 20));
        assert_eq!(victim.jobs, ["b", "c"]);
        assert_eq!((victim.items_done, victim.items_total), (200, 1_000));
    }

    #[test]
    fn who_holds_nothing_or_is_not_ours_is_spared() {
        let workers = [worker("w3", 30)];
        let ours = BTreeMap::from([("worker-1".to_owned(), 10)]);
        assert_eq!(choose([leased("a", "w3")].iter(), &workers, &ours), None);
        let done = v1::Job { state: v1::JobState::Succeeded as i32, ..leased("a", "w1") };
        assert_eq!(choose([done].iter(), &[worker("w1", 10)], &ours), None);
    }
}
