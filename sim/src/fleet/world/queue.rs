//! The jobs that wait: of each model, first to be late, first to start.

use std::collections::BTreeSet;

use crate::fleet::job::{Job, Millis};

/// The end of a job's promise, and the job.
type Due = (Millis, usize);

#[derive(Debug)]
pub(super) struct Queue {
    by_model: Vec<BTreeSet<Due>>,
}

impl Queue {
    pub(super) fn new(models: usize) -> Self {
        Self { by_model: vec![BTreeSet::new(); models] }
    }

    pub(super) fn push(&mut self, model: usize, due: Due) {
        self.by_model[model].insert(due);
    }

    pub(super) fn len(&self) -> usize {
        self.by_model.iter().map(BTreeSet::len).sum()
    }

    /// The job that is the first to be late, and its model.
    pub(super) fn first(&self) -> Option<(usize, usize)> {
        let heads = self.by_model.iter().enumerate();
        let heads = heads.filter_map(|(model, jobs)| jobs.first().map(|due| (*due, model)));
        heads.min().map(|((_, job), model)| (job, model))
    }

    /// The model of that job.
    pub(super) fn first_model(&self) -> Option<usize> {
        self.first().map(|(_, model)| model)
    }

    /// Takes at most `most` of a model's jobs: a batch is of one model.
    pub(super) fn take(&mut self, model: usize, most: usize) -> Vec<usize> {
        let jobs = &mut self.by_model[model];
        (0..most).map_while(|_| jobs.pop_first()).map(|(_, job)| job).collect()
    }
}

/// The jobs that wait, as a policy sees them. Nothing is computed that is not asked for.
#[derive(Debug, Clone, Copy)]
pub struct Backlog<'a> {
    queue: &'a Queue,
    jobs: &'a [Job],
    classes: usize,
}

impl<'a> Backlog<'a> {
    pub(super) const fn new(queue: &'a Queue, jobs: &'a [Job], classes: usize) -> Self {
        Self { queue, jobs, classes }
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.first().is_none()
    }

    /// Of each model, the first to be late first.
    pub fn jobs(&self) -> impl Iterator<Item = &'a Job> {
        let jobs = self.jobs;
        self.queue.by_model.iter().flatten().map(move |(_, job)| &jobs[*job])
    }

    /// When the job came that has waited for longest.
    pub fn oldest(&self) -> Option<Millis> {
        if self.classes == 1 {
            // With one wait for all, the first to be late is the first that came.
            return self.queue.first().map(|(job, _)| self.jobs[job].at);
        }
        self.jobs().map(|job| job.at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_of_the_model_whose_job_is_late_first() {
        let mut queue = Queue::new(2);
        for (model, due) in [(0, (30, 0)), (1, (10, 1)), (0, (20, 2)), (1, (40, 3))] {
            queue.push(model, due);
        }
        assert_eq!((queue.len(), queue.first()), (4, Some((1, 1))));
        let job = |at| Job { at, service: 1, class: 0, model: 0 };
        let jobs = [job(20), job(5), job(10), job(30)];
        let backlog = |classes| Backlog::new(&queue, &jobs, classes);
        assert_eq!(backlog(1).oldest(), Some(5));
        assert_eq!(backlog(2).oldest(), Some(5));
        assert_eq!(backlog(1).jobs().map(|job| job.at).collect::<Vec<_>>(), [10, 20, 5, 30]);
        assert_eq!(queue.take(1, 8), [1, 3]);
        assert_eq!(queue.take(0, 1), [2]);
        assert_eq!(queue.first(), Some((0, 0)));
    }
}
