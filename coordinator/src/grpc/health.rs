//! `grpc.health.v1`, from the coordinator's readiness.
//!
//! The empty name and `/readyz` are about the whole: without a broker nothing is released. Each
//! service stands for itself: jobs are accepted, and results given, without a broker.

use stoker_proto::v1::admin_service_server::AdminServiceServer;
use stoker_proto::v1::job_service_server::JobServiceServer;
use stoker_proto::v1::queue_service_server::QueueServiceServer;
use stoker_proto::v1::worker_service_server::WorkerServiceServer;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::{admin, jobs, queue, workers};
use crate::readiness::{Readiness, Verdict};

/// The whole coordinator.
const WHOLE: &str = "";

const JOBS: &str = <JobServiceServer<jobs::Jobs> as NamedService>::NAME;
const WORKERS: &str = <WorkerServiceServer<workers::Workers> as NamedService>::NAME;
const ADMIN: &str = <AdminServiceServer<admin::Admin> as NamedService>::NAME;
const QUEUE: &str = <QueueServiceServer<queue::Queue> as NamedService>::NAME;

/// Whether this coordinator serves its own queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnQueue {
    Served,
    NotServed,
}

/// Reports until shutdown; then nothing is served, and watches of health end.
pub(super) async fn report(
    mut reporter: HealthReporter,
    readiness: Readiness,
    own_queue: OwnQueue,
    shutdown: CancellationToken,
) {
    let mut verdicts = readiness.subscribe();
    // Fails only when every handle to the readiness is gone, and one is held here.
    while let Some(Ok(())) = shutdown.run_until_cancelled(verdicts.changed()).await {
        let verdict = verdicts.borrow_and_update().clone();
        for (name, status) in statuses(&verdict, own_queue) {
            reporter.set_service_status(name, status).await;
        }
    }
    for (name, _) in statuses(&Verdict::READY, own_queue) {
        reporter.clear_service_status(name).await;
    }
}

fn statuses(verdict: &Verdict, own_queue: OwnQueue) -> [(&'static str, ServingStatus); 5] {
    let serving = |serves| {
        if serves { ServingStatus::Serving } else { ServingStatus::NotServing }
    };
    let store = verdict.store_problem.is_none();
    [
        (WHOLE, serving(verdict.problem().is_none())),
        (JOBS, serving(store)),
        (WORKERS, serving(store)),
        (ADMIN, serving(store)),
        (QUEUE, serving(own_queue == OwnQueue::Served)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_broker_jobs_are_still_served() {
        let verdict = Verdict { broker_problem: Some("down".to_owned()), ..Verdict::READY };
        let statuses = statuses(&verdict, OwnQueue::NotServed);
        assert_eq!(
            statuses,
            [
                ("", ServingStatus::NotServing),
                ("stoker.v1.JobService", ServingStatus::Serving),
                ("stoker.v1.WorkerService", ServingStatus::Serving),
                ("stoker.v1.AdminService", ServingStatus::Serving),
                ("stoker.v1.QueueService", ServingStatus::NotServing),
            ]
        );
    }
}
