//! Whether anything was lost: every job, every item, every attempt. Pure.

use stoker_proto::v1;

use crate::render::job::change;

/// What is wrong, one line each; empty if nothing was lost.
///
/// `vectors` is the number of results that were fetched for each job.
pub(crate) fn losses(submitted: &[Submitted], jobs: &[(v1::Job, u64)]) -> Vec<String> {
    let mut losses = Vec::new();
    for expected in submitted {
        match jobs.iter().find(|(job, _)| job.id == expected.id) {
            None => losses.push(format!("job {} is gone", expected.id)),
            Some((job, vectors)) => losses.extend(losses_of(expected, job, *vectors)),
        }
    }
    losses
}

/// A job as it was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Submitted {
    pub(crate) id: String,
    pub(crate) items: u64,
}

fn losses_of(expected: &Submitted, job: &v1::Job, vectors: u64) -> Vec<String> {
    let mut losses = Vec::new();
    if job.state != v1::JobState::Succeeded as i32 {
        losses.push(format!("a job did not succeed: {}", change(job)));
    }
    if u64::from(job.items_total) != expected.items || vectors != expected.items {
        losses.push(format!(
            "job {}: {} items submitted, {} stored, {vectors} results",
            job.id, expected.items, job.items_total
        ));
    }
    let explained = 1 + job.failures + job.crashes + job.lost_workers + job.interruptions;
    if job.attempts != explained {
        losses.push(format!(
            "job {}: {} attempts, but {explained} are accounted for",
            job.id, job.attempts
        ));
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> v1::Job {
        v1::Job {
            id: "a".into(),
            state: v1::JobState::Succeeded as i32,
            items_total: 500,
            items_done: 500,
            attempts: 2,
            lost_workers: 1,
            ..v1::Job::default()
        }
    }

    fn check(job: v1::Job, vectors: u64) -> Vec<String> {
        losses(&[Submitted { id: "a".into(), items: 500 }], &[(job, vectors)])
    }

    #[test]
    fn a_job_that_lost_a_worker_and_came_through_is_no_loss() {
        assert_eq!(check(job(), 500), [""; 0]);
    }

    #[test]
    fn every_kind_of_loss_is_found() {
        let failed = v1::Job { state: v1::JobState::Failed as i32, ..job() };
        assert!(check(failed, 500)[0].starts_with("a job did not succeed"));
        assert!(check(job(), 499)[0].contains("499 results"));
        assert!(check(v1::Job { attempts: 3, ..job() }, 500)[0].contains("3 attempts, but 2"));
        let submitted = [Submitted { id: "gone".into(), items: 1 }];
        assert_eq!(losses(&submitted, &[]), ["job gone is gone"]);
    }
}
