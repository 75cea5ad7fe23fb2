//! No call shows or touches another tenant's jobs.

use stoker_proto::status::Reason;
use stoker_proto::v1;
use tonic::Code;

use crate::fixture::{Coordinator, as_tenant, echo, refused};

const TENANTS: &str = "[tenants.acme]\n[tenants.evil]\n";

fn watch(job: String) -> v1::WatchRequest {
    v1::WatchRequest { job_ids: vec![job], texts: false }
}

fn read(job: String) -> v1::WatchRequest {
    v1::WatchRequest { texts: true, ..watch(job) }
}

#[tokio::test]
async fn foreign_jobs_are_not_found_in_every_call() {
    let coordinator = Coordinator::start(TENANTS).await;
    let mut jobs = coordinator.jobs().await;
    let request = as_tenant("acme", v1::SubmitRequest { job: Some(echo(&["secret"])) });
    let id = jobs.submit(request).await.unwrap().into_inner().job_id;
    let job_id = || id.clone();
    let refusals = [
        refused(jobs.get(as_tenant("evil", v1::GetRequest { job_id: job_id() })).await),
        refused(jobs.cancel(as_tenant("evil", v1::CancelRequest { job_id: job_id() })).await),
        refused(jobs.retry(as_tenant("evil", v1::RetryRequest { job_id: job_id() })).await),
        refused(jobs.watch(as_tenant("evil", watch(job_id()))).await),
        refused(jobs.watch(as_tenant("evil", read(job_id()))).await),
        refused(
            jobs.results(as_tenant("evil", v1::ResultsRequest { job_id: job_id(), first_item: 0 }))
                .await,
        ),
    ];
    for refusal in refusals {
        assert_eq!(refusal.code, Code::NotFound, "{refusal}");
    }
    let listed = jobs.list(as_tenant("evil", v1::ListRequest::default())).await.unwrap();
    assert!(listed.into_inner().jobs.is_empty());
    let mine = jobs.get(as_tenant("acme", v1::GetRequest { job_id: job_id() })).await.unwrap();
    let mine = mine.into_inner().job.unwrap();
    assert_ne!(mine.state(), v1::JobState::Cancelled);
    assert!(mine.retried_as.is_empty());
}

#[tokio::test]
async fn keys_of_two_tenants_do_not_meet() {
    let coordinator = Coordinator::start(TENANTS).await;
    let mut jobs = coordinator.jobs().await;
    let spec = |text: &str| v1::JobSpec { idempotency_key: "k".to_owned(), ..echo(&[text]) };
    for (tenant, text) in [("acme", "a"), ("evil", "b")] {
        let request = as_tenant(tenant, v1::SubmitRequest { job: Some(spec(text)) });
        assert!(jobs.submit(request).await.unwrap().into_inner().created);
    }
}

#[tokio::test]
async fn a_tenant_must_be_known_and_named_where_there_are_several() {
    let coordinator = Coordinator::start(TENANTS).await;
    let mut jobs = coordinator.jobs().await;
    let unnamed = refused(jobs.list(v1::ListRequest::default()).await);
    let unknown = refused(jobs.list(as_tenant("nobody", v1::ListRequest::default())).await);
    for refusal in [unnamed, unknown] {
        assert_eq!(refusal.code, Code::PermissionDenied);
        assert_eq!(refusal.reason, Some(Reason::UnknownTenant));
        assert!(refusal.message.contains("stoker-tenant"), "{refusal}");
        assert!(!refusal.message.contains("acme"), "{refusal}");
    }
}
