//! Recordings, which take an engine long to prepare and to hear.

use stoker_engine_api::{Recording, Segment, Transcript, WrittenIn};

use super::super::preparing::LONG_PREPARING_PER_JOB;
use super::*;

fn recording() -> ItemInput {
    let (file, written_in) = (b"RIFF".to_vec(), WrittenIn::Spoken);
    ItemInput::Recording(Box::new(Recording { file, language: None, written_in }))
}

fn listening(recordings: usize) -> Board {
    let mut board = ready_board(Capacity { lanes: 1, max_tokens: 1_000_000, max_items: 1 });
    let admission = Admission { inputs: vec![recording(); recordings], ..job(1, &[]) };
    assert_eq!(board.admit(admission), None);
    board
}

/// The items of the messages of a step.
fn prepares(step: Step) -> Vec<Vec<ItemKey>> {
    let items = |message| match message {
        ToEngine::Prepare { items } => items.into_iter().map(|(key, _)| key).collect(),
        other => panic!("{other:?}"),
    };
    step.messages.into_iter().map(items).collect()
}

#[test]
fn each_recording_is_prepared_by_itself_and_few_at_a_time() {
    let mut board = listening(20);
    let first = prepares(board.advance(at(NOW)));
    assert_eq!(first.len(), LONG_PREPARING_PER_JOB);
    assert!(first.iter().all(|items| items.len() == 1), "{first:?}");
    assert_eq!(prepares(board.advance(at(NOW))), Vec::<Vec<ItemKey>>::new());
}

#[test]
fn a_recording_that_cannot_be_used_fails_its_job_by_name() {
    let mut board = listening(2);
    let keys = prepares(board.advance(at(NOW))).concat();
    let message = "the recording cannot be used: there is no sound in it".to_owned();
    let answer = vec![(keys[1], Err(ItemError::Invalid { message }))];
    let ended = board.prepared(answer, at(NOW));
    let [Ended { key: JobKey(1), outcome: Outcome::Failed(failure) }] = ended.as_slice() else {
        panic!("{ended:?}")
    };
    assert_eq!((failure.kind, failure.code), (FailureKind::Permanent, "INVALID_INPUT"));
    assert!(failure.message.starts_with("item 1: invalid input: the recording"), "{failure:?}");
}

#[test]
fn transcripts_come_out_in_the_order_of_the_recordings() {
    let mut board = listening(1);
    let keys = prepares(board.advance(at(NOW))).concat();
    assert!(board.prepared(vec![(keys[0], Ok(1_724))], at(NOW)).is_empty());
    let step = board.advance(at(NOW));
    let Some(ToEngine::Run { batch, .. }) = step.messages.first() else { panic!("{step:?}") };
    let segments = vec![Segment { start_ms: 0, end_ms: 900, text: " Coal".to_owned() }];
    let transcript = Transcript { language: Some("en".to_owned()), segments, duration_ms: 1_000 };
    let outputs = vec![ItemOutput::Transcript(transcript)];
    let finished = board.done(*batch, outputs, Duration::from_millis(10)).unwrap();
    let [Ended { outcome: Outcome::Completed { parts, .. }, .. }] = finished.ended.as_slice()
    else {
        panic!("{:?}", finished.ended)
    };
    let Some(Output::Transcripts(found)) = &parts[0].output else { panic!("{parts:?}") };
    assert_eq!((found.transcripts[0].text.as_str(), parts[0].items), ("Coal", 1));
}
