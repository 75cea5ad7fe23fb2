//! The board against a pretend engine: what goes in comes out once, whatever happens between.

use std::collections::{BTreeMap, BTreeSet};

use stoker_engine_api::{EngineError, ItemInput, ItemOutput};
use stoker_proto::v1::result_part::Output;

mod crashes;
mod generating;
mod labels;
mod leaving;
mod listening;
mod lives;
mod sizes;

use super::preparing::PREPARING_PER_JOB;
use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(millis)
}

const NOW: i64 = 1_000;

fn capacity(lanes: usize, max_tokens: u32) -> Capacity {
    Capacity { lanes, max_tokens, max_items: 100 }
}

fn job(key: u64, texts: &[&str]) -> Admission {
    Admission {
        key: JobKey(key),
        inputs: texts.iter().map(|text| ItemInput::Text((*text).to_owned())).collect(),
        first_item: 0,
        alone: false,
        granted_at: at(NOW),
        start_by: at(NOW),
    }
}

fn ready_board(capacity: Capacity) -> Board {
    let mut board = Board::new();
    board.engine_ready(capacity, None);
    board
}

/// An engine that holds what it was given and answers when told.
#[derive(Debug, Default)]
struct Engine {
    held: BTreeMap<ItemKey, String>,
    prepares: VecDeque<Vec<ItemKey>>,
    runs: VecDeque<(u64, Vec<ItemKey>)>,
}

impl Engine {
    fn take(&mut self, step: Step) {
        for message in step.messages {
            match message {
                ToEngine::Prepare { items } => {
                    self.prepares.push_back(items.iter().map(|(key, _)| *key).collect());
                    for (key, input) in items {
                        let ItemInput::Text(text) = input else { panic!("not a text") };
                        assert!(self.held.insert(key, text).is_none(), "{key:?} used twice");
                    }
                }
                ToEngine::Run { batch, items } => {
                    for key in &items {
                        assert!(self.held.contains_key(key), "batch of an item not prepared");
                    }
                    self.runs.push_back((batch, items));
                }
                ToEngine::Forget { items } => {
                    for key in items {
                        assert!(self.held.remove(&key).is_some(), "{key:?} forgotten twice");
                    }
                }
                ToEngine::Shutdown => panic!("not the board's business"),
            }
        }
    }

    /// Everything that was asked for is prepared; one token per byte.
    fn prepare(&mut self, board: &mut Board) -> Vec<Ended> {
        let mut ended = Vec::new();
        while let Some(more) = self.prepare_one(board) {
            ended.extend(more);
        }
        ended
    }

    fn prepare_one(&mut self, board: &mut Board) -> Option<Vec<Ended>> {
        let keys = self.prepares.pop_front()?;
        let cost = |key: &ItemKey| {
            let text = self.held.get(key).map_or(1, String::len);
            Ok(u32::try_from(text.max(1)).unwrap())
        };
        let items = keys.iter().map(|key| (*key, cost(key))).collect();
        Some(board.prepared(items, at(NOW)))
    }

    fn finish(&mut self, board: &mut Board) -> Option<Vec<Ended>> {
        let (batch, items) = self.runs.pop_front()?;
        let outputs = items.iter().map(|key| {
            let text = self.held.remove(key).expect("a batch's items stay until it is done");
            ItemOutput::Text(text)
        });
        let finished = board.done(batch, outputs.collect(), Duration::from_millis(10)).unwrap();
        Some(finished.ended)
    }

    fn fail(&mut self, board: &mut Board, error: &EngineError) -> Vec<Ended> {
        let (batch, _) = self.runs.pop_front().unwrap();
        board.failed(batch, error).unwrap().ended
    }
}

/// Runs until nothing is left to do.
fn run_all(board: &mut Board, engine: &mut Engine) -> Vec<Ended> {
    let mut ended = Vec::new();
    let mut now = NOW;
    loop {
        engine.take(board.advance(at(now)));
        now += 10;
        let before = engine.prepares.len();
        ended.extend(engine.prepare(board));
        match engine.finish(board) {
            Some(more) => ended.extend(more),
            None if before == 0 => return ended,
            None => {}
        }
    }
}

fn texts(ended: &Ended) -> Vec<String> {
    let Outcome::Completed { parts, .. } = &ended.outcome else { panic!("{ended:?}") };
    let of = |part: &ResultPart| match &part.output {
        Some(Output::Texts(texts)) => texts.texts.clone(),
        other => panic!("{other:?}"),
    };
    parts.iter().flat_map(of).collect()
}

fn failure(ended: &[Ended]) -> (u64, FailureKind, &'static str) {
    match ended {
        [Ended { key, outcome: Outcome::Failed(failure) }] => (key.0, failure.kind, failure.code),
        other => panic!("{other:?}"),
    }
}

fn oom() -> EngineError {
    EngineError::OutOfMemory { message: "no room".to_owned() }
}

#[test]
fn jobs_share_batches_and_come_back_whole() {
    let mut board = ready_board(capacity(1, 100));
    let mut engine = Engine::default();
    assert!(board.admit(job(1, &["a", "bb"])).is_none());
    assert!(board.admit(job(2, &["ccc"])).is_none());
    engine.take(board.advance(at(NOW)));
    assert!(engine.prepare(&mut board).is_empty());
    let step = board.advance(at(NOW));
    assert_eq!(step.started.len(), 1);
    assert_eq!(step.started[0].jobs, [JobKey(1), JobKey(2)]);
    assert_eq!((step.started[0].items, step.started[0].tokens), (3, 6));
    engine.take(step);
    let ended = engine.finish(&mut board).unwrap();
    assert_eq!(ended.iter().map(texts).collect::<Vec<_>>(), [vec!["a", "bb"], vec!["ccc"]]);
    let Outcome::Completed { busy, .. } = &ended[0].outcome else { panic!() };
    let half = Duration::from_millis(5);
    let close = busy.abs_diff(half) < Duration::from_micros(1);
    assert!(close, "half of the batch's tokens, half of its time: {busy:?}");
    assert!(board.is_empty() && engine.held.is_empty());
}

#[test]
fn a_resumed_job_goes_on_where_it_was() {
    let mut board = ready_board(capacity(1, 100));
    let admission = Admission { first_item: 2, ..job(1, &["a", "b", "c", "d"]) };
    assert!(board.admit(admission).is_none());
    let ended = run_all(&mut board, &mut Engine::default());
    assert_eq!(texts(&ended[0]), ["c", "d"]);
    let Outcome::Completed { parts, .. } = &ended[0].outcome else { panic!() };
    assert_eq!(parts[0].first_item, 2);
}

#[test]
fn a_job_with_all_items_stored_completes_at_once() {
    let mut board = Board::new();
    let admission = Admission { first_item: 2, ..job(1, &["a", "b"]) };
    let ended = board.admit(admission).unwrap();
    assert_eq!(ended.outcome, Outcome::Completed { parts: Vec::new(), busy: Duration::ZERO });
}

#[test]
fn one_batch_waits_behind_the_busy_lanes_and_no_more() {
    let mut board = ready_board(capacity(2, 1));
    let mut engine = Engine::default();
    assert!(board.admit(job(1, &["a"; 10])).is_none());
    engine.take(board.advance(at(NOW)));
    assert!(engine.prepare(&mut board).is_empty());
    engine.take(board.advance(at(NOW)));
    assert_eq!(engine.runs.len(), 3);
    engine.take(board.advance(at(NOW)));
    assert_eq!(engine.runs.len(), 3);
}

#[test]
fn a_batch_with_room_is_not_queued_behind_a_busy_lane_at_once() {
    let mut board = ready_board(capacity(1, 100));
    let mut engine = Engine::default();
    let patient = |key| Admission { start_by: at(NOW + 1_000), ..job(key, &["a"]) };
    assert!(board.admit(patient(1)).is_none());
    engine.take(board.advance(at(NOW)));
    assert!(engine.prepare(&mut board).is_empty());
    // The lane is idle for the first pass: it takes what is there without waiting.
    let step = board.advance(at(NOW));
    assert_eq!(step.started.len(), 1);
    engine.take(step);
    assert!(board.admit(patient(2)).is_none());
    engine.take(board.advance(at(NOW)));
    assert!(engine.prepare(&mut board).is_empty());
    let step = board.advance(at(NOW));
    assert_eq!((step.started.len(), step.wake_at), (0, Some(at(NOW + 5))));
    assert_eq!(board.advance(at(NOW + 5)).started.len(), 1);
}

#[test]
fn an_engine_that_answers_out_of_order_is_matched_by_what_it_answers() {
    let mut board = ready_board(capacity(1, 100));
    let mut engine = Engine::default();
    assert!(board.admit(job(1, &["a"])).is_none());
    engine.take(board.advance(at(NOW)));
    assert!(board.admit(job(2, &["b"])).is_none());
    engine.take(board.advance(at(NOW)));
    engine.prepares.swap(0, 1);
    let second = engine.prepares.pop_front().unwrap();
    assert!(board.prepared(vec![(second[0], Ok(1))], at(NOW)).is_empty());
    let ended = board.engine_lost("was killed", "ENGINE_CRASHED", Blame::Open);
    assert_eq!(failure(&ended), (1, FailureKind::Crash, "ENGINE_CRASHED"));
}

#[test]
fn an_item_that_cannot_be_prepared_fails_its_job_alone() {
    let mut board = ready_board(capacity(1, 100));
    let mut engine = Engine::default();
    assert!(board.admit(job(1, &["a", "b"])).is_none());
    assert!(board.admit(job(2, &["c"])).is_none());
    engine.take(board.advance(at(NOW)));
    let keys = engine.prepares.pop_front().unwrap();
    let invalid = ItemError::Invalid { message: "too odd".to_owned() };
    let items = vec![(keys[0], Ok(1)), (keys[1], Err(invalid)), (keys[2], Ok(1))];
    engine.held.remove(&keys[1]);
    let ended = board.prepared(items, at(NOW));
    assert_eq!(failure(&ended), (1, FailureKind::Permanent, "INVALID_INPUT"));
    let ended = run_all(&mut board, &mut engine);
    assert_eq!(texts(&ended[0]), ["c"]);
    assert!(engine.held.is_empty(), "the other item of the failed job is forgotten");
}

#[test]
fn no_memory_halves_the_batch_and_the_budget() {
    let mut board = ready_board(capacity(1, 4));
    let mut engine = Engine::default();
    assert!(board.admit(job(1, &["a"; 8])).is_none());
    engine.take(board.advance(at(NOW)));
    assert!(engine.prepare(&mut board).is_empty());
    engine.take(board.advance(at(NOW)));
    assert!(engine.fail(&mut board, &oom()).is_empty());
    engine.runs.clear();
    let step = board.advance(at(NOW));
    assert!(step.started.iter().all(|started| started.tokens <= 2), "{:?}", step.started);
}

#[test]
fn an_item_for_which_there_is_never_memory_fails_its_job() {
    let mut board = ready_board(capacity(1, 4));
    let mut engine = Engine::default();
    assert!(board.admit(job(1, &["a"])).is_none());
    engine.take(board.advance(at(NOW)));
    assert!(engine.prepare(&mut board).is_empty());
    engine.take(board.advance(at(NOW)));
    let ended = engine.fail(&mut board, &oom());
    assert_eq!(failure(&ended), (1, FailureKind::Retryable, "OUT_OF_MEMORY"));
    assert!(board.is_empty());
}

#[test]
fn a_batch_that_cannot_run_is_narrowed_down_to_the_item() {
    let mut board = ready_board(capacity(1, 100));
    let mut engine = Engine::default();
    for key in 1..=4 {
        assert!(board.admit(job(key, &[if key == 3 { "bad" } else { "ok" }])).is_none());
    }
    let mut ended = Vec::new();
    for _ in 0..20 {
        engine.take(board.advance(at(NOW)));
        ended.extend(engine.prepare(&mut board));
        let Some((_, items)) = engine.runs.front() else { continue };
        if items.iter().any(|key| engine.held[key] == "bad") {
            let error = EngineError::Input { message: "odd".to_owned() };
            ended.extend(engine.fail(&mut board, &error));
        } else {
            ended.extend(engine.finish(&mut board).unwrap());
        }
    }
    let failed: Vec<_> =
        ended.iter().filter(|e| matches!(e.outcome, Outcome::Failed(_))).map(|e| e.key).collect();
    assert_eq!((ended.len(), failed), (4, vec![JobKey(3)]));
    assert!(board.is_empty());
}

#[test]
fn a_dead_engine_is_laid_to_what_ran_and_the_rest_runs_again() {
    let mut board = ready_board(capacity(1, 2));
    let mut engine = Engine::default();
    for key in 1..=3 {
        assert!(board.admit(job(key, &["a", "b"])).is_none());
    }
    engine.take(board.advance(at(NOW)));
    assert!(engine.prepare(&mut board).is_empty());
    engine.take(board.advance(at(NOW)));
    assert_eq!(engine.runs.len(), 2, "one runs, one waits in the engine");
    let ended = board.engine_lost("was killed", "ENGINE_CRASHED", Blame::Open);
    assert_eq!(failure(&ended), (1, FailureKind::Crash, "ENGINE_CRASHED"));
    assert_eq!(board.advance(at(NOW)), Step::default(), "nothing is sent to a dead engine");
    board.engine_ready(capacity(1, 2), None);
    let ended = run_all(&mut board, &mut Engine::default());
    assert_eq!(ended.len(), 2);
    assert!(ended.iter().all(|ended| texts(ended) == ["a", "b"]));
}

#[test]
fn an_engine_that_dies_preparing_is_laid_to_what_it_prepared() {
    let mut board = ready_board(capacity(1, 100));
    assert!(board.admit(Admission { alone: true, ..job(1, &["poison"]) }).is_none());
    assert!(board.admit(job(2, &["b"])).is_none());
    let _ = board.advance(at(NOW));
    let ended = board.engine_lost("was killed", "ENGINE_CRASHED", Blame::Open);
    assert_eq!(failure(&ended), (1, FailureKind::Crash, "ENGINE_CRASHED"));
}

#[test]
fn an_engine_that_says_which_batch_ends_it_puts_no_blame_on_others() {
    let mut board = ready_board(capacity(2, 1));
    let mut engine = Engine::default();
    assert!(board.admit(job(1, &["a"])).is_none());
    assert!(board.admit(job(2, &["b"])).is_none());
    engine.take(board.advance(at(NOW)));
    assert!(engine.prepare(&mut board).is_empty());
    engine.take(board.advance(at(NOW)));
    let error = EngineError::Device { message: "illegal address".to_owned() };
    assert_eq!(failure(&engine.fail(&mut board, &error)), (1, FailureKind::Crash, "DEVICE_ERROR"));
    assert!(board.engine_lost("exited", "ENGINE_CRASHED", Blame::Named).is_empty());
    board.engine_ready(capacity(2, 1), None);
    assert_eq!(texts(&run_all(&mut board, &mut Engine::default())[0]), ["b"]);
}

#[test]
fn a_removed_job_is_forgotten_but_for_what_runs() {
    let mut board = ready_board(capacity(1, 1));
    let mut engine = Engine::default();
    assert!(board.admit(job(1, &["a", "b", "c"])).is_none());
    engine.take(board.advance(at(NOW)));
    assert!(engine.prepare(&mut board).is_empty());
    engine.take(board.advance(at(NOW)));
    assert_eq!(board.remove(JobKey(1)), Some(Vec::new()));
    assert_eq!(board.remove(JobKey(1)), None);
    engine.take(board.advance(at(NOW)));
    assert_eq!(engine.held.len(), 2, "those of the two batches under way");
    assert!(run_all(&mut board, &mut engine).is_empty());
    assert!(engine.held.is_empty());
}

#[test]
fn a_removed_job_gives_what_is_done_of_it() {
    let mut board = ready_board(capacity(1, 1));
    let mut engine = Engine::default();
    assert!(board.admit(job(1, &["a", "b"])).is_none());
    engine.take(board.advance(at(NOW)));
    assert!(engine.prepare(&mut board).is_empty());
    engine.take(board.advance(at(NOW)));
    assert!(engine.finish(&mut board).unwrap().is_empty());
    let parts = board.remove(JobKey(1)).unwrap();
    assert_eq!((parts.len(), parts[0].first_item, parts[0].items), (1, 0, 1));
}

#[test]
fn a_finished_job_waits_for_its_checkpoint_and_sends_only_the_rest() {
    let mut board = ready_board(capacity(1, 1));
    let mut engine = Engine::default();
    assert!(board.admit(job(1, &["a", "b"])).is_none());
    engine.take(board.advance(at(NOW)));
    assert!(engine.prepare(&mut board).is_empty());
    engine.take(board.advance(at(NOW)));
    assert!(engine.finish(&mut board).unwrap().is_empty());
    let sent = board.checkpoint(JobKey(1), usize::MAX);
    assert_eq!(sent[0].items, 1);
    assert!(engine.finish(&mut board).unwrap().is_empty(), "the checkpoint is in flight");
    assert_eq!(texts(&board.checkpoint_stored(JobKey(1)).unwrap()), ["b"]);
    assert!(board.is_empty());
}

#[test]
fn an_impossible_answer_is_an_error_and_loses_nothing() {
    let mut board = ready_board(capacity(1, 100));
    let mut engine = Engine::default();
    assert!(board.admit(job(1, &["a"])).is_none());
    engine.take(board.advance(at(NOW)));
    assert!(engine.prepare(&mut board).is_empty());
    engine.take(board.advance(at(NOW)));
    let busy = Duration::ZERO;
    assert!(matches!(board.done(99, Vec::new(), busy), Err(ProtocolError::UnknownBatch { .. })));
    assert!(matches!(
        board.done(0, Vec::new(), busy),
        Err(ProtocolError::Outputs { got: 0, expected: 1 })
    ));
    assert_eq!(board.engine_lost("was killed", "ENGINE_INTERNAL", Blame::Open).len(), 1);
}

#[test]
fn a_large_job_prepares_a_bounded_number_ahead_and_lets_a_small_one_through() {
    let mut board = ready_board(capacity(1, 16));
    let mut engine = Engine::default();
    assert!(board.admit(job(1, &vec!["x"; 5_000])).is_none());
    engine.take(board.advance(at(NOW)));
    assert_eq!(engine.held.len(), PREPARING_PER_JOB);
    assert!(engine.prepare(&mut board).is_empty());
    engine.take(board.advance(at(NOW)));
    assert_eq!(engine.held.len(), PREPARING_PER_JOB, "two batches of tokens are there");
    assert!(board.admit(job(2, &["y"])).is_none());
    engine.take(board.advance(at(NOW)));
    assert_eq!(engine.held.len(), PREPARING_PER_JOB + 1);
    let ended = run_all(&mut board, &mut engine);
    assert_eq!(ended.iter().map(|e| texts(e).len()).sum::<usize>(), 5_001);
}

#[test]
fn a_text_that_fits_into_no_frame_is_refused() {
    let long = "x".repeat(MAX_INPUT_BYTES + 1);
    let ended = Board::new().admit(job(1, &["a", &long])).unwrap();
    assert_eq!(failure(&[ended]), (1, FailureKind::Permanent, "INPUT_TOO_LARGE"));
}
