//! What is left to do, and jobs that are handed over: nothing further of them is started, and what was started is
//! waited for.

use std::collections::BTreeSet;
use std::time::Duration;

use stoker_core::departure::{Engine, Remaining, hand_over, time_left};
use stoker_engine_api::ItemKey;

use super::job::{Ends, Job};
use super::{Board, Ended, JobKey};

impl Board {
    /// The jobs that do not end within `left`, by what was measured of them; of those that are not asked to
    /// leave yet. None while there is no engine: it may come back and tell.
    pub fn too_long_for(&self, left: Duration) -> Vec<JobKey> {
        let Some(engine) = self.engine_at_pace() else { return Vec::new() };
        let staying = self.jobs.iter().filter(|(_, job)| job.ends == Ends::Complete);
        let remaining: Vec<_> = staying.map(|(key, job)| self.remaining(*key, job)).collect();
        hand_over(&remaining, engine, left)
    }

    /// How long the engine needs for all that is on the board, by what was measured of it; `None` while there is work
    /// and no engine, or nothing was measured.
    pub fn time_left(&self) -> Option<Duration> {
        if self.jobs.is_empty() {
            return Some(Duration::ZERO);
        }
        let remaining: Vec<_> =
            self.jobs.iter().map(|(key, job)| self.remaining(*key, job)).collect();
        time_left(&remaining, self.engine_at_pace()?)
    }

    fn engine_at_pace(&self) -> Option<Engine> {
        let batch = self.pace.batch();
        self.engine.map(|capacity| Engine { lanes: capacity.lanes, batch })
    }

    fn remaining(&self, key: JobKey, job: &Job) -> Remaining<JobKey> {
        let per_item = job.pace.per_item().or_else(|| self.pace.per_item());
        Remaining { job: key, items: job.items_left(), per_item }
    }

    /// Lets a job end early: with its last item that is done or in a batch. What lies before that and was not
    /// started is still run, so that the results have no gap and nothing that was computed is computed again.
    #[must_use]
    pub fn leave(&mut self, key: JobKey) -> Option<Ended> {
        let started = self.running.values().flat_map(|batch| &batch.items);
        let started = started.filter(|item| item.job == key);
        let started = started.filter_map(|item| self.items.get(&item.key)).map(|(_, index)| *index);
        let behind_started = started.max().map_or(0, |index| index.saturating_add(1));
        let job = self.jobs.get_mut(&key).filter(|job| job.ends == Ends::Complete)?;
        let end = behind_started.max(job.results.end());
        let given_up: BTreeSet<ItemKey> = job.end_early(end).into_iter().collect();
        for item in self.queue.remove_job(key) {
            if !given_up.contains(&item.key) {
                self.queue.push(item);
            }
        }
        for batch in &mut self.retries {
            batch.items.retain(|item| !given_up.contains(&item.key));
        }
        self.retries.retain(|batch| !batch.items.is_empty());
        for item in &given_up {
            self.items.remove(item);
        }
        self.forget.extend(given_up);
        self.finish_if_done(key)
    }

    /// What jobs that leave had in the engine is gone with it: they end with what is done.
    pub(super) fn leave_without_engine(&mut self) -> Vec<Ended> {
        let mut leaving = Vec::new();
        for (key, job) in self.jobs.iter_mut().filter(|(_, job)| job.ends == Ends::Early) {
            let end = job.results.end();
            // The engine that held them is gone.
            drop(job.end_early(end));
            leaving.push(*key);
        }
        leaving.into_iter().filter_map(|key| self.finish_if_done(key)).collect()
    }
}
