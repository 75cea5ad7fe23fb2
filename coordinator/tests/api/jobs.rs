//! Submit, get, list, watch, cancel, retry.

use stoker_proto::status::Reason;
use stoker_proto::v1;
use stoker_runtime::clock::{Clock as _, SystemClock};
use stoker_runtime::ids;
use tonic::Code;

use crate::fixture::{Coordinator, Worker, echo, fields, next, part, refused, rest};

fn submit(job: v1::JobSpec) -> v1::SubmitRequest {
    v1::SubmitRequest { job: Some(job) }
}

fn batch(jobs: Vec<v1::JobSpec>) -> v1::SubmitBatchRequest {
    v1::SubmitBatchRequest { jobs }
}

fn unknown_id() -> String {
    ids::job_id(SystemClock::new().now()).to_string()
}

#[tokio::test]
async fn a_job_waits_for_a_worker_and_says_so() {
    let coordinator = Coordinator::start("").await;
    let job = coordinator.submit(&["a", "b"]).await;
    let asked = coordinator.ask(&job).await;
    assert!(asked.waiting_for.contains("no ready worker serves the model `echo`"), "{asked:?}");
    let record = asked.job.unwrap();
    assert_eq!((record.tenant.as_str(), record.class.as_str()), ("default", "standard"));
    assert_eq!((record.pool.as_str(), record.items_total), ("default", 2));
    assert!(record.deadline_at.is_none());
}

#[tokio::test]
async fn a_request_is_refused_as_a_whole_with_every_field_that_is_wrong() {
    let coordinator = Coordinator::start("").await;
    let mut jobs = coordinator.jobs().await;
    let missing = refused(jobs.submit(v1::SubmitRequest { job: None }).await);
    assert_eq!((missing.code, fields(&missing)), (Code::InvalidArgument, vec!["job"]));

    let mut wrong_task = echo(&["x"]);
    wrong_task.model = "mini".to_owned();
    let mut unknown = echo(&[]);
    unknown.model = "mega".to_owned();
    unknown.class = "fast".to_owned();
    let request = batch(vec![echo(&["fine"]), wrong_task, unknown]);
    let refusal = refused(jobs.submit_batch(request).await);
    assert_eq!(refusal.reason, Some(Reason::InvalidRequest));
    assert_eq!(
        fields(&refusal),
        ["jobs[1].input", "jobs[2].input.echo.texts", "jobs[2].model", "jobs[2].class"]
    );
    let listed = jobs.list(v1::ListRequest::default()).await.unwrap().into_inner();
    assert!(listed.jobs.is_empty(), "nothing is half stored");
}

#[tokio::test]
async fn a_key_gives_the_same_job_for_the_same_request_and_an_error_for_another() {
    let coordinator = Coordinator::start("").await;
    let mut jobs = coordinator.jobs().await;
    let keyed =
        |texts: &[&str]| v1::JobSpec { idempotency_key: "order-7".to_owned(), ..echo(texts) };
    let first = jobs.submit(submit(keyed(&["a"]))).await.unwrap().into_inner();
    let again = jobs.submit(submit(keyed(&["a"]))).await.unwrap().into_inner();
    assert_eq!((again.job_id.as_str(), again.created), (first.job_id.as_str(), false));

    let refusal = refused(jobs.submit_batch(batch(vec![echo(&["x"]), keyed(&["b"])])).await);
    assert_eq!(refusal.code, Code::AlreadyExists);
    assert_eq!(refusal.reason, Some(Reason::IdempotencyKeyReused));
    assert_eq!(fields(&refusal), ["jobs[1].idempotency_key"]);
    assert!(refusal.message.contains(&first.job_id), "{refusal}");
    let refusal = refused(jobs.submit(submit(keyed(&["b"]))).await);
    assert_eq!(fields(&refusal), ["job.idempotency_key"]);
}

#[tokio::test]
async fn a_batch_answers_in_its_order() {
    let coordinator = Coordinator::start("").await;
    let mut jobs = coordinator.jobs().await;
    let request = batch(vec![echo(&["1"]), echo(&["1", "2"]), echo(&["1", "2", "3"])]);
    let answers = jobs.submit_batch(request).await.unwrap().into_inner().jobs;
    for (index, answer) in answers.iter().enumerate() {
        let items = coordinator.get(&answer.job_id).await.items_total;
        assert_eq!(usize::try_from(items).unwrap(), index + 1);
    }
}

#[tokio::test]
async fn a_message_larger_than_the_limit_is_refused() {
    let coordinator = Coordinator::start("").await;
    let huge = "x".repeat(17 << 20);
    let refusal = refused(coordinator.jobs().await.submit(submit(echo(&[&huge]))).await);
    assert_eq!(fields(&refusal), ["request"], "{refusal}");
    assert!(refusal.message.contains("split it into several"), "{refusal}");
    let large = "x".repeat(5 << 20);
    let refusal = refused(coordinator.jobs().await.submit(submit(echo(&[&large]))).await);
    assert_eq!(fields(&refusal), ["job.input"], "{refusal}");
}

#[tokio::test]
async fn there_is_room_for_so_many_jobs_and_no_more() {
    let limits = "[limits]\nmax-queued = 3\n[tenants.default]\nmax-queued = 2\n[tenants.other]\n";
    let coordinator = Coordinator::start(limits).await;
    let mut jobs = coordinator.jobs().await;
    coordinator.submit(&["1"]).await;
    let refusal = refused(jobs.submit_batch(batch(vec![echo(&["2"]), echo(&["3"])])).await);
    assert_eq!(refusal.code, Code::ResourceExhausted);
    assert_eq!(refusal.reason, Some(Reason::TenantQueueFull));
    assert!(refusal.retry_after.is_some());
    let keyed = || v1::JobSpec { idempotency_key: "k".to_owned(), ..echo(&["2"]) };
    let job = jobs.submit(submit(keyed())).await.unwrap().into_inner().job_id;
    let request = |texts: &[&str]| crate::fixture::as_tenant("other", submit(echo(texts)));
    jobs.submit(request(&["1"])).await.unwrap();
    let refusal = refused(jobs.submit(request(&["2"])).await);
    assert_eq!(refusal.reason, Some(Reason::FleetQueueFull));
    let repeated = jobs.submit(submit(keyed())).await.unwrap().into_inner();
    assert_eq!((repeated.job_id, repeated.created), (job.clone(), false), "it is in already");
    jobs.cancel(v1::CancelRequest { job_id: job }).await.unwrap();
    jobs.submit(request(&["2"])).await.unwrap();
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_new_jobs_and_says_what_to_do() {
    let coordinator = Coordinator::start("[limits]\nmin-free-disk = '1024PiB'\n").await;
    let refusal = refused(coordinator.jobs().await.submit(submit(echo(&["x"]))).await);
    assert_eq!(refusal.reason, Some(Reason::DiskFull));
    assert!(refusal.message.contains("free some space"), "{refusal}");
}

#[tokio::test]
async fn lists_go_on_page_by_page_with_the_same_filter_only() {
    let coordinator = Coordinator::start("").await;
    let mut jobs = coordinator.jobs().await;
    let mut ids = Vec::new();
    for text in ["1", "2", "3"] {
        ids.push(coordinator.submit(&[text]).await);
    }
    let page = |page_token: String| v1::ListRequest {
        page_size: 2,
        page_token,
        model: "echo".to_owned(),
        ..v1::ListRequest::default()
    };
    let first = jobs.list(page(String::new())).await.unwrap().into_inner();
    let second = jobs.list(page(first.next_page_token.clone())).await.unwrap().into_inner();
    assert!(second.next_page_token.is_empty());
    let listed: Vec<String> = first.jobs.into_iter().chain(second.jobs).map(|job| job.id).collect();
    ids.reverse();
    assert_eq!(listed, ids, "newest first");

    let other = v1::ListRequest { model: "mini".to_owned(), ..page(first.next_page_token) };
    let refusal = refused(jobs.list(other).await);
    assert_eq!((refusal.code, fields(&refusal)), (Code::InvalidArgument, vec!["page_token"]));
    let refusal =
        refused(jobs.list(v1::ListRequest { page_size: 1_001, ..page(String::new()) }).await);
    assert_eq!(fields(&refusal), ["page_size"]);
}

#[tokio::test]
async fn lists_filter_by_state_class_and_labels() {
    let coordinator = Coordinator::start("").await;
    let mut jobs = coordinator.jobs().await;
    let labeled = v1::JobSpec {
        class: "bulk".to_owned(),
        labels: [("project".to_owned(), "corpus".to_owned())].into(),
        ..echo(&["x"])
    };
    let id = jobs.submit(submit(labeled)).await.unwrap().into_inner().job_id;
    let cancelled = coordinator.submit(&["y"]).await;
    jobs.cancel(v1::CancelRequest { job_id: cancelled.clone() }).await.unwrap();
    let all = v1::ListRequest::default();
    for (request, expected) in [
        (v1::ListRequest { class: "bulk".to_owned(), ..all.clone() }, &id),
        (
            v1::ListRequest { states: vec![v1::JobState::Cancelled.into()], ..all.clone() },
            &cancelled,
        ),
        (
            v1::ListRequest {
                labels: [("project".to_owned(), "corpus".to_owned())].into(),
                ..all.clone()
            },
            &id,
        ),
    ] {
        let found = jobs.list(request).await.unwrap().into_inner().jobs;
        assert_eq!(found.iter().map(|job| &job.id).collect::<Vec<_>>(), [expected]);
    }
}

#[tokio::test]
async fn a_watch_tells_the_present_then_progress_and_ends_with_the_last_job() {
    let coordinator = Coordinator::start("").await;
    let (one, two) = (coordinator.submit(&["a", "b"]).await, coordinator.submit(&["c"]).await);
    let request =
        v1::WatchRequest { job_ids: vec![one.clone(), two.clone(), one.clone()], texts: false };
    let mut watch = coordinator.jobs().await.watch(request).await.unwrap().into_inner();
    let snapshot = [next(&mut watch).await.job.unwrap(), next(&mut watch).await.job.unwrap()];
    assert_eq!(snapshot.each_ref().map(|job| &job.id), [&one, &two]);

    let mut worker = Worker::ready(&coordinator, 2).await;
    let held = worker.take(&coordinator, &one).await;
    let progress = v1::AttemptProgress {
        fence: Some(held.fence.clone()),
        parts: vec![part(0, &["a"])],
        begun: None,
    };
    worker.heartbeat(vec![progress], None).await.unwrap();
    while next(&mut watch).await.job.unwrap().items_done != 1 {}
    worker.complete(&held.fence, vec![part(1, &["b"])]).await.unwrap();
    coordinator.jobs().await.cancel(v1::CancelRequest { job_id: two.clone() }).await.unwrap();
    let told = rest(watch).await;
    let last = |id: &str| {
        told.iter().filter_map(|told| told.job.as_ref()).rfind(|job| job.id == id).unwrap().state()
    };
    assert_eq!(last(&one), v1::JobState::Succeeded);
    assert_eq!(last(&two), v1::JobState::Cancelled);
}

#[tokio::test]
async fn a_watch_needs_jobs_that_exist() {
    let coordinator = Coordinator::start("").await;
    let mut jobs = coordinator.jobs().await;
    let (known, unknown) = (coordinator.submit(&["a"]).await, unknown_id());
    let refusal = refused(
        jobs.watch(v1::WatchRequest { job_ids: vec![known, unknown.clone()], texts: false }).await,
    );
    assert_eq!(refusal.code, Code::NotFound);
    assert!(refusal.message.contains(&unknown), "{refusal}");
    let refusal = refused(jobs.watch(v1::WatchRequest { job_ids: vec![], texts: false }).await);
    assert_eq!(fields(&refusal), ["job_ids"]);
    let many = vec![unknown; 1_001];
    let refusal = refused(jobs.watch(v1::WatchRequest { job_ids: many, texts: false }).await);
    assert_eq!(fields(&refusal), ["job_ids"]);
}

#[tokio::test]
async fn cancel_is_repeatable_but_cannot_undo_an_end() {
    let coordinator = Coordinator::start("").await;
    let mut jobs = coordinator.jobs().await;
    let job = coordinator.submit(&["a"]).await;
    for _ in 0..2 {
        let request = v1::CancelRequest { job_id: job.clone() };
        let answer = jobs.cancel(request).await.unwrap().into_inner();
        assert_eq!(answer.job.unwrap().state(), v1::JobState::Cancelled);
    }
    let done = coordinator.submit(&["a"]).await;
    let mut worker = Worker::ready(&coordinator, 1).await;
    let held = worker.take(&coordinator, &done).await;
    worker.complete(&held.fence, vec![part(0, &["a"])]).await.unwrap();
    let refusal = refused(jobs.cancel(v1::CancelRequest { job_id: done }).await);
    assert_eq!(refusal.code, Code::FailedPrecondition);
    assert_eq!(refusal.reason, Some(Reason::JobEnded));
    assert!(refusal.message.contains("it succeeded"), "{refusal}");
}

#[tokio::test]
async fn retry_starts_one_new_job_for_one_that_ended_without_a_result() {
    let coordinator = Coordinator::start("").await;
    let mut jobs = coordinator.jobs().await;
    let job = coordinator.submit(&["a"]).await;
    let request = v1::RetryRequest { job_id: job.clone() };
    let refusal = refused(jobs.retry(request.clone()).await);
    assert_eq!(refusal.reason, Some(Reason::JobNotRetryable));
    assert!(refusal.message.contains("cancel it first"), "{refusal}");
    jobs.cancel(v1::CancelRequest { job_id: job.clone() }).await.unwrap();
    let first = jobs.retry(request.clone()).await.unwrap().into_inner().job.unwrap();
    let again = jobs.retry(request).await.unwrap().into_inner().job.unwrap();
    assert_eq!(first.id, again.id);
    assert_eq!((first.retry_of.as_str(), first.state()), (job.as_str(), v1::JobState::Queued));
    assert_eq!(coordinator.get(&job).await.retried_as, first.id);
}

#[tokio::test]
async fn ids_are_checked_and_unknown_ones_are_not_found_in_every_call() {
    let coordinator = Coordinator::start("").await;
    let mut jobs = coordinator.jobs().await;
    for (job_id, code) in [
        (unknown_id(), Code::NotFound),
        ("nonsense".to_owned(), Code::InvalidArgument),
        (String::new(), Code::InvalidArgument),
    ] {
        let id = || job_id.clone();
        let refusals = [
            refused(jobs.get(v1::GetRequest { job_id: id() }).await),
            refused(jobs.cancel(v1::CancelRequest { job_id: id() }).await),
            refused(jobs.retry(v1::RetryRequest { job_id: id() }).await),
            refused(jobs.results(v1::ResultsRequest { job_id: id(), first_item: 0 }).await),
        ];
        for refusal in refusals {
            assert_eq!(refusal.code, code, "{refusal}");
            if code == Code::InvalidArgument {
                assert_eq!(fields(&refusal), ["job_id"]);
            }
        }
    }
}

#[tokio::test]
async fn a_deadline_that_passes_ends_the_job() {
    let coordinator = Coordinator::start("").await;
    let deadline_after = Some(stoker_proto::well_known::Duration { seconds: 0, nanos: 50_000_000 });
    let spec = v1::JobSpec { deadline_after, ..echo(&["a"]) };
    let job = coordinator.jobs().await.submit(submit(spec)).await.unwrap().into_inner().job_id;
    let ended = coordinator.wait_for(&job, v1::JobState::Expired).await;
    assert!(ended.finished_at.is_some());
}

#[tokio::test]
async fn models_are_listed_with_what_they_do_and_where() {
    let coordinator = Coordinator::start("").await;
    let answer = coordinator.jobs().await.list_models(v1::ListModelsRequest {}).await.unwrap();
    let models = answer.into_inner().models;
    let told: Vec<_> = models
        .iter()
        .map(|model| (model.name.as_str(), model.task(), model.pool.as_str()))
        .collect();
    let expected =
        [("echo", v1::Task::Echo, "default"), ("mini", v1::Task::TextEmbedding, "default")];
    assert_eq!(told, expected);
}
