//! Who waits for news of which jobs.
//!
//! The hub says only *that* a job changed; watchers read what it is now from the store. So a slow
//! watcher costs no memory: however often a job changes, it is one entry of its dirty set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stoker_core::ids::JobId;
use tokio::sync::Notify;

/// Keeps the watchers of each job.
#[derive(Debug, Default)]
pub struct Hub {
    watchers: Mutex<BTreeMap<JobId, Vec<Arc<Dirty>>>>,
}

/// What one watcher has not read yet; at most the jobs it subscribed to.
#[derive(Debug, Default)]
struct Dirty {
    jobs: Mutex<BTreeSet<JobId>>,
    bell: Notify,
}

/// Learns of changes of the jobs it subscribed to, until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    hub: Arc<Hub>,
    jobs: BTreeSet<JobId>,
    dirty: Arc<Dirty>,
}

impl Hub {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Changes that are committed from now on reach the watcher: subscribe first, then read.
    pub fn subscribe(self: &Arc<Self>, jobs: &[JobId]) -> Watcher {
        let dirty = Arc::new(Dirty::default());
        let jobs: BTreeSet<JobId> = jobs.iter().copied().collect();
        let mut watchers = self.watchers();
        for job in &jobs {
            watchers.entry(*job).or_default().push(Arc::clone(&dirty));
        }
        drop(watchers);
        Watcher { hub: Arc::clone(self), jobs, dirty }
    }

    /// Whether somebody waits for news of this job.
    pub fn is_watched(&self, job: JobId) -> bool {
        self.watchers().contains_key(&job)
    }

    /// Tells the watchers of these jobs. Returns at once.
    pub fn changed(&self, jobs: impl IntoIterator<Item = JobId>) {
        let watchers = self.watchers();
        if watchers.is_empty() {
            return;
        }
        for job in jobs {
            for dirty in watchers.get(&job).into_iter().flatten() {
                dirty.add(job);
            }
        }
    }

    /// Has every watcher look at all of its jobs: changes may have been missed.
    pub fn all_changed(&self) {
        for (job, watchers) in &*self.watchers() {
            for dirty in watchers {
                dirty.add(*job);
            }
        }
    }

    fn watchers(&self) -> MutexGuard<'_, BTreeMap<JobId, Vec<Arc<Dirty>>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dirty {
    fn add(&self, job: JobId) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).insert(job);
        self.bell.notify_one();
    }

    fn take(&self) -> BTreeSet<JobId> {
        std::mem::take(&mut *self.jobs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Watcher {
    /// The jobs that changed since the last call; waits until there is one. Cancel-safe.
    pub async fn changed(&self) -> BTreeSet<JobId> {
        loop {
            let jobs = self.dirty.take();
            if !jobs.is_empty() {
                return jobs;
            }
            self.dirty.bell.notified().await;
        }
    }
}

impl Watcher {
    /// Wants no news of this job any more.
    pub fn leave(&mut self, job: JobId) {
        if self.jobs.remove(&job) {
            self.unsubscribe([job]);
        }
    }

    /// Wants no news any more. Answers the jobs that it had.
    pub fn leave_all(&mut self) -> BTreeSet<JobId> {
        let jobs = std::mem::take(&mut self.jobs);
        self.unsubscribe(jobs.iter().copied());
        jobs
    }

    fn unsubscribe(&self, jobs: impl IntoIterator<Item = JobId>) {
        let mut watchers = self.hub.watchers();
        for job in jobs {
            if let Some(of_job) = watchers.get_mut(&job) {
                of_job.retain(|dirty| !Arc::ptr_eq(dirty, &self.dirty));
                if of_job.is_empty() {
                    watchers.remove(&job);
                }
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.leave_all();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn job(number: u8) -> JobId {
        JobId::from_bytes([number; 16])
    }

    #[tokio::test]
    async fn changes_are_coalesced_and_reach_only_those_who_asked() {
        let hub = Hub::new();
        let one = hub.subscribe(&[job(1), job(2)]);
        let two = hub.subscribe(&[job(2)]);
        hub.changed([job(1), job(1), job(2), job(3)]);
        hub.changed([job(1)]);
        assert_eq!(one.changed().await, BTreeSet::from([job(1), job(2)]));
        assert_eq!(two.changed().await, BTreeSet::from([job(2)]));
        assert!(one.changed().now_or_never().is_none());
        hub.changed([job(2)]);
        assert_eq!(one.changed().await, BTreeSet::from([job(2)]));
    }

    #[tokio::test]
    async fn after_missed_changes_everybody_looks() {
        let hub = Hub::new();
        let (one, two) = (hub.subscribe(&[job(1), job(2)]), hub.subscribe(&[job(3)]));
        hub.all_changed();
        assert_eq!(one.changed().await, BTreeSet::from([job(1), job(2)]));
        assert_eq!(two.changed().await, BTreeSet::from([job(3)]));
    }

    #[tokio::test]
    async fn a_dropped_watcher_leaves_nothing_behind() {
        let hub = Hub::new();
        let (one, two) = (hub.subscribe(&[job(1), job(1)]), hub.subscribe(&[job(1)]));
        drop(one);
        hub.changed([job(1)]);
        assert_eq!(two.changed().await.len(), 1);
        drop(two);
        assert!(hub.watchers().is_empty());
    }

    #[tokio::test]
    async fn a_watcher_leaves_a_job_and_hears_of_the_others() {
        let hub = Hub::new();
        let mut one = hub.subscribe(&[job(1), job(2)]);
        one.leave(job(1));
        one.leave(job(3));
        assert_eq!([1, 2].map(|number| hub.is_watched(job(number))), [false, true]);
        hub.changed([job(1), job(2)]);
        assert_eq!(one.changed().await, BTreeSet::from([job(2)]));
        assert_eq!(one.leave_all(), BTreeSet::from([job(2)]));
        assert!(hub.watchers().is_empty());
    }
}
