//! What a job made, in order, from any item on; and why there is nothing.

use stoker_coordinator::config::BrokerChoice;
use stoker_proto::status::Reason;
use stoker_proto::v1;
use stoker_proto::v1::result_part::Output;
use tonic::Code;

use crate::fixture::{Coordinator, Worker, fields, part, refused, rest, until};

async fn finished(coordinator: &Coordinator, texts: &[&str]) -> String {
    let job = coordinator.submit(texts).await;
    let mut worker = Worker::ready(coordinator, 1).await;
    let held = worker.take(coordinator, &job).await;
    let (first, last) = texts.split_at(texts.len() / 2);
    let progress = v1::AttemptProgress {
        fence: Some(held.fence.clone()),
        parts: vec![part(0, first)],
        begun: None,
    };
    worker.heartbeat(vec![progress], None).await.unwrap();
    let from = u32::try_from(first.len()).unwrap();
    worker.complete(&held.fence, vec![part(from, last)]).await.unwrap();
    job
}

async fn texts_from(coordinator: &Coordinator, job: &str, first_item: u32) -> Vec<String> {
    let request = v1::ResultsRequest { job_id: job.to_owned(), first_item };
    let stream = coordinator.jobs().await.results(request).await.unwrap().into_inner();
    let mut texts = Vec::new();
    for response in rest(stream).await {
        let part = response.part.unwrap();
        assert_eq!(part.first_item as usize, first_item as usize + texts.len(), "without a gap");
        match part.output.unwrap() {
            Output::Texts(more) => texts.extend(more.texts),
            Output::Embeddings(_)
            | Output::Classifications(_)
            | Output::Generations(_)
            | Output::Faces(_)
            | Output::Transcripts(_) => {
                panic!("an echo job makes texts")
            }
        }
    }
    texts
}

#[tokio::test]
async fn results_come_in_order_from_any_item_on() {
    let coordinator = Coordinator::start("").await;
    let all = ["a", "b", "c", "d", "e"];
    let job = finished(&coordinator, &all).await;
    for first in 0..=all.len() {
        let texts = texts_from(&coordinator, &job, u32::try_from(first).unwrap()).await;
        assert_eq!(texts, all[first..], "from {first} on");
    }
    let request = v1::ResultsRequest { job_id: job, first_item: 6 };
    let refusal = refused(coordinator.jobs().await.results(request).await);
    assert_eq!((refusal.code, fields(&refusal)), (Code::InvalidArgument, vec!["first_item"]));
}

#[tokio::test]
async fn results_larger_than_one_reading_come_whole() {
    let coordinator = Coordinator::start("").await;
    let text = "x".repeat(200 << 10);
    let texts: Vec<&str> = vec![&text; 12];
    let job = finished(&coordinator, &texts).await;
    assert_eq!(texts_from(&coordinator, &job, 0).await.len(), 12);
    assert_eq!(texts_from(&coordinator, &job, 11).await.len(), 1);
}

#[tokio::test]
async fn a_job_without_a_result_says_why_and_what_to_do() {
    let coordinator = Coordinator::start("").await;
    let job = coordinator.submit(&["a"]).await;
    let mut jobs = coordinator.jobs().await;
    let request = v1::ResultsRequest { job_id: job.clone(), first_item: 0 };
    let refusal = refused(jobs.results(request.clone()).await);
    assert_eq!(refusal.code, Code::FailedPrecondition);
    assert_eq!(refusal.reason, Some(Reason::JobNotSucceeded));
    assert!(refusal.message.contains("no results yet"), "{refusal}");
    jobs.cancel(v1::CancelRequest { job_id: job }).await.unwrap();
    let refusal = refused(jobs.results(request).await);
    assert!(refusal.message.contains("it was cancelled; retry it"), "{refusal}");
}

#[tokio::test]
async fn results_that_retention_removed_are_told_from_those_that_never_were() {
    let coordinator = Coordinator::start("").await;
    let job = finished(&coordinator, &["a", "b"]).await;
    let folder = coordinator.stop().await;
    let more = "[retention]\nresults = '1ms'\n";
    let coordinator = Coordinator::start_in(folder, more, BrokerChoice::Embedded).await;
    let request = v1::ResultsRequest { job_id: job, first_item: 0 };
    let refusal = until("retention", || async {
        let answer = coordinator.jobs().await.results(request.clone()).await;
        answer.is_err().then(|| refused(answer))
    })
    .await;
    assert_eq!(refusal.reason, Some(Reason::DataRemoved));
    assert!(refusal.message.contains("retention.results"), "{refusal}");
}
