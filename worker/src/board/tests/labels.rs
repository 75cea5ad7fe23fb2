//! Scores of labels that jobs name: each job's results have its own labels, whatever batch they came in.

use std::sync::Arc;

use stoker_engine_api::{ImageInput, Labels, Question, Scores};

use super::*;

fn asking(key: u64, labels: &[&str]) -> Admission {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    let question = Some(Arc::new(Question { labels, template: "a {}".to_owned() }));
    let input = ImageInput { file: vec![1, 2, 3], question };
    Admission { inputs: vec![ItemInput::Image(Box::new(input)); 2], ..job(key, &[]) }
}

fn scores(numbers: &[f32]) -> ItemOutput {
    ItemOutput::Scores(Scores { scores: numbers.to_vec(), truncated: false })
}

/// The labels of a job's results, and whether they exclude each other.
fn labels_of(ended: &[Ended], key: u64) -> (Vec<String>, bool) {
    let ended = ended.iter().find(|ended| ended.key == JobKey(key)).unwrap();
    let Outcome::Completed { parts, .. } = &ended.outcome else { panic!("{ended:?}") };
    let Some(Output::Classifications(part)) = &parts[0].output else { panic!("{parts:?}") };
    assert_eq!((parts.len(), parts[0].items), (1, 2));
    (part.labels.clone(), part.exclusive)
}

#[test]
fn jobs_of_one_batch_have_results_with_labels_of_their_own() {
    let mut board = Board::new();
    let labels = Labels { names: Vec::new(), exclusive: true };
    board.engine_ready(capacity(1, 1_000), Some(labels));
    assert_eq!(board.admit(asking(1, &["cat", "dog"])), None);
    assert_eq!(board.admit(asking(2, &["sea", "sky", "sun"])), None);
    let step = board.advance(at(NOW));
    let [ToEngine::Prepare { items }] = step.messages.as_slice() else { panic!("{step:?}") };
    let prepared = items.iter().map(|(key, _)| (*key, Ok(17))).collect();
    assert!(board.prepared(prepared, at(NOW)).is_empty());
    let step = board.advance(at(NOW));
    let [ToEngine::Run { batch, items }] = step.messages.as_slice() else { panic!("{step:?}") };
    assert_eq!(items.len(), 4);
    let outputs = [[0.5, 0.5].as_slice(), &[1.0, 0.0], &[0.0, 0.0, 1.0], &[0.0, 1.0, 0.0]];
    let finished = board.done(*batch, outputs.map(scores).to_vec(), Duration::ZERO).unwrap();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(labels_of(&finished.ended, 1), (names(&["cat", "dog"]), true));
    assert_eq!(labels_of(&finished.ended, 2), (names(&["sea", "sky", "sun"]), true));
}

#[test]
fn as_many_scores_as_labels_or_the_job_fails() {
    let mut board = Board::new();
    let labels = Labels { names: Vec::new(), exclusive: true };
    board.engine_ready(capacity(1, 1_000), Some(labels));
    assert_eq!(board.admit(asking(1, &["cat", "dog"])), None);
    let step = board.advance(at(NOW));
    let [ToEngine::Prepare { items }] = step.messages.as_slice() else { panic!("{step:?}") };
    let prepared = items.iter().map(|(key, _)| (*key, Ok(17))).collect();
    assert!(board.prepared(prepared, at(NOW)).is_empty());
    let step = board.advance(at(NOW));
    let [ToEngine::Run { batch, .. }] = step.messages.as_slice() else { panic!("{step:?}") };
    let outputs = vec![scores(&[1.0]), scores(&[0.5, 0.5])];
    let finished = board.done(*batch, outputs, Duration::ZERO).unwrap();
    let [Ended { outcome: Outcome::Failed(failure), .. }] = finished.ended.as_slice() else {
        panic!("{finished:?}")
    };
    assert_eq!(failure.code, "ENGINE_INTERNAL");
}
