//! Texts that are told while they are generated, and who gets to read them.

use stoker_proto::v1;
use stoker_runtime::ids;

use crate::fixture::{Coordinator, Worker, fields, next, refused, registration, rest};

const TALES: &str = "[models.tale]\ntask = 'text-generation'\nsource = 'file:/models/tale'\n\
    [pools.tales]\nmodels = ['tale']\n";

/// A worker that generates.
async fn teller(coordinator: &Coordinator) -> Worker {
    let id = ids::worker_id().to_string();
    let mut calls = coordinator.workers().await;
    let (pool, models) = ("tales".to_owned(), vec!["tale".to_owned()]);
    let registration = v1::RegisterRequest { pool, models, ..registration(&id, 1) };
    let mut commands = calls.register(registration).await.unwrap().into_inner();
    next(&mut commands).await;
    let mut worker = Worker { id, calls, commands };
    worker.beat(v1::WorkerState::Ready).await;
    worker
}

async fn submit(coordinator: &Coordinator, prompts: usize) -> String {
    let prompt = v1::Prompt { prompt: Some(v1::prompt::Prompt::Text("Once".to_owned())) };
    let input = v1::TextGenerationInput { prompts: vec![prompt; prompts], options: None };
    let task = Some(v1::job_input::Task::TextGeneration(input));
    let job = Some(v1::JobSpec {
        model: "tale".to_owned(),
        input: Some(v1::JobInput { task }),
        ..v1::JobSpec::default()
    });
    let request = v1::SubmitRequest { job };
    coordinator.jobs().await.submit(request).await.unwrap().into_inner().job_id
}

fn piece(item: u32, bytes_before: u64, text: &str) -> v1::TextPiece {
    v1::TextPiece { item, bytes_before, text: text.to_owned(), ends: false }
}

/// A piece with which the text ends.
fn last(item: u32, bytes_before: u64, text: &str) -> v1::TextPiece {
    v1::TextPiece { ends: true, ..piece(item, bytes_before, text) }
}

async fn tell(worker: &mut Worker, fence: &v1::Fence, pieces: Vec<v1::TextPiece>) -> v1::Told {
    let attempts = vec![v1::AttemptTexts { fence: Some(fence.clone()), pieces }];
    let request = v1::TellRequest { worker_id: worker.id.clone(), attempts };
    let mut outcomes = worker.calls.tell(request).await.unwrap().into_inner().outcomes;
    outcomes.pop().unwrap()
}

/// A stream of states and texts.
async fn read(coordinator: &Coordinator, job: &str) -> tonic::Streaming<v1::WatchResponse> {
    let request = v1::WatchRequest { job_ids: vec![job.to_owned()], texts: true };
    coordinator.jobs().await.watch(request).await.unwrap().into_inner()
}

/// What is told of texts next, whatever is told of states before it.
async fn news(stream: &mut tonic::Streaming<v1::WatchResponse>) -> Vec<v1::TextPiece> {
    loop {
        if let Some(texts) = next(stream).await.texts {
            return texts.pieces;
        }
    }
}

/// The states that a stream tells to its end, each once, and no texts.
async fn states(stream: tonic::Streaming<v1::WatchResponse>) -> Vec<v1::JobState> {
    let state = |update: v1::WatchResponse| {
        assert_eq!(update.texts, None);
        update.job.unwrap().state()
    };
    let mut states: Vec<_> = rest(stream).await.into_iter().map(state).collect();
    states.dedup();
    states
}

fn story(texts: &[&str]) -> v1::ResultPart {
    let finish = v1::FinishReason::Stop.into();
    let one =
        |text: &&str| v1::Generation { text: (*text).to_owned(), finish, ..Default::default() };
    let generations: Vec<v1::Generation> = texts.iter().map(one).collect();
    let items = u32::try_from(generations.len()).unwrap();
    let output = v1::result_part::Output::Generations(v1::Generations { generations });
    v1::ResultPart { first_item: 0, items, output: Some(output) }
}

#[tokio::test]
async fn a_text_reaches_those_who_asked_for_it_before_its_end() {
    let coordinator = Coordinator::start(TALES).await;
    let mut worker = teller(&coordinator).await;
    let job = submit(&coordinator, 1).await;
    let held = worker.take(&coordinator, &job).await;
    let untold = tell(&mut worker, &held.fence, vec![piece(0, 0, "Once")]).await;
    assert_eq!(untold, v1::Told::default(), "nobody watches");

    let request = v1::WatchRequest { job_ids: vec![job.clone()], texts: false };
    let of_states = coordinator.jobs().await.watch(request).await.unwrap().into_inner();
    let told = tell(&mut worker, &held.fence, vec![]).await;
    assert!(!told.watched, "a watcher of states reads no texts");
    let mut reader = read(&coordinator, &job).await;
    let told = tell(&mut worker, &held.fence, vec![piece(0, 0, "Once")]).await;
    assert_eq!((told.watched, told.bytes[&0]), (true, 4));
    assert_eq!(news(&mut reader).await, [piece(0, 0, "Once")]);
    // A piece that tells some of it again.
    tell(&mut worker, &held.fence, vec![piece(0, 2, "ce upon")]).await;
    assert_eq!(news(&mut reader).await, [piece(0, 4, " upon")]);
    // Items that the job does not have are nobody's.
    let told = tell(&mut worker, &held.fence, vec![piece(1, 0, "x")]).await;
    assert_eq!(told.bytes.keys().copied().collect::<Vec<_>>(), [0]);
    // Somebody who comes later, or again, has missed nothing.
    let mut late = read(&coordinator, &job).await;
    assert_eq!(news(&mut late).await, [piece(0, 0, "Once upon")]);

    worker.complete(&held.fence, vec![story(&["Once upon a time"])]).await.unwrap();
    for mut reader in [reader, late] {
        // What was not told comes before the end.
        assert_eq!(news(&mut reader).await, [last(0, 9, " a time")]);
        assert_eq!(states(reader).await, [v1::JobState::Succeeded]);
    }
    let both = [v1::JobState::Leased, v1::JobState::Succeeded];
    assert_eq!(states(of_states).await, both);
    assert!(!tell(&mut worker, &held.fence, vec![]).await.watched, "it has ended");
}

#[tokio::test]
async fn a_job_that_has_ended_is_told_from_its_results_and_one_that_failed_has_none() {
    let coordinator = Coordinator::start(TALES).await;
    let mut worker = teller(&coordinator).await;
    let job = submit(&coordinator, 2).await;
    let held = worker.take(&coordinator, &job).await;
    worker.complete(&held.fence, vec![story(&["one", ""])]).await.unwrap();
    let told = rest(read(&coordinator, &job).await).await;
    let pieces: Vec<v1::TextPiece> =
        told.iter().flat_map(|update| &update.texts).flat_map(|news| news.pieces.clone()).collect();
    assert_eq!(pieces, [last(0, 0, "one"), last(1, 0, "")]);
    let last = told.last().unwrap().job.as_ref().unwrap();
    assert_eq!(last.state(), v1::JobState::Succeeded);

    let job = submit(&coordinator, 1).await;
    let reader = read(&coordinator, &job).await;
    let cancel = v1::CancelRequest { job_id: job.clone() };
    coordinator.jobs().await.cancel(cancel).await.unwrap();
    assert_eq!(states(reader).await.last(), Some(&v1::JobState::Cancelled));
}

#[tokio::test]
async fn the_next_attempt_goes_on_where_readers_are_and_nothing_comes_twice() {
    let coordinator = Coordinator::start(TALES).await;
    let mut worker = teller(&coordinator).await;
    let job = submit(&coordinator, 1).await;
    let first = worker.take(&coordinator, &job).await;
    let reader = read(&coordinator, &job).await;
    tell(&mut worker, &first.fence, vec![piece(0, 0, "Once upon")]).await;
    worker.release(&first.fence, v1::ReleaseReason::Draining, vec![]).await.unwrap();
    let second = worker.take(&coordinator, &job).await;
    let told = tell(&mut worker, &second.fence, vec![]).await;
    assert_eq!((told.watched, told.bytes.len()), (true, 0), "it has told nothing itself");
    tell(&mut worker, &first.fence, vec![piece(0, 9, " another")]).await;
    let told = tell(&mut worker, &second.fence, vec![piece(0, 0, "Once")]).await;
    assert_eq!(told.bytes[&0], 9);
    tell(&mut worker, &second.fence, vec![piece(0, 4, " upon a")]).await;
    worker.complete(&second.fence, vec![story(&["Once upon a time"])]).await.unwrap();
    let mut read = String::new();
    for piece in rest(reader)
        .await
        .into_iter()
        .filter_map(|update| update.texts)
        .flat_map(|news| news.pieces)
    {
        assert_eq!(piece.bytes_before, read.len() as u64);
        read.push_str(&piece.text);
    }
    assert_eq!(read, "Once upon a time");
}

#[tokio::test]
async fn an_attempt_that_is_over_tells_nothing() {
    let coordinator = Coordinator::start(TALES).await;
    let mut worker = teller(&coordinator).await;
    let job = submit(&coordinator, 1).await;
    let held = worker.take(&coordinator, &job).await;
    let _reader = read(&coordinator, &job).await;
    let mut forged = held.fence.clone();
    forged.token = vec![0; 16];
    assert!(!tell(&mut worker, &forged, vec![piece(0, 0, "x")]).await.watched);
    assert!(tell(&mut worker, &held.fence, vec![]).await.bytes.is_empty());
    worker.release(&held.fence, v1::ReleaseReason::Draining, vec![]).await.unwrap();
    assert!(!tell(&mut worker, &held.fence, vec![piece(0, 0, "x")]).await.watched);

    forged.job_id = "nonsense".to_owned();
    let attempts = vec![v1::AttemptTexts { fence: Some(forged), pieces: vec![] }];
    let request = v1::TellRequest { worker_id: worker.id.clone(), attempts };
    let refusal = refused(worker.calls.tell(request).await);
    assert_eq!(fields(&refusal), ["attempts[0].fence.job_id"]);
}
