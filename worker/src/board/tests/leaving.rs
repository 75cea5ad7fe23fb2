//! Jobs that leave: what was started comes back, nothing else is begun, and the results have no gap.

use proptest::prelude::*;

use super::*;

fn handed_over(ended: &[Ended]) -> Vec<String> {
    let [Ended { outcome: Outcome::HandedOver { parts }, .. }] = ended else { panic!("{ended:?}") };
    texts(&Ended {
        key: JobKey(0),
        outcome: Outcome::Completed { parts: parts.clone(), busy: Duration::ZERO },
    })
}

#[test]
fn what_was_not_started_leaves_at_once() {
    let mut board = ready_board(capacity(1, 10));
    assert!(board.admit(job(1, &["aa", "bb"])).is_none());
    let ended = board.leave(JobKey(1)).expect("nothing was started");
    assert!(matches!(ended.outcome, Outcome::HandedOver { parts } if parts.is_empty()));
    assert!(board.is_empty() && board.leave(JobKey(1)).is_none());
}

#[test]
fn what_is_with_the_engine_is_waited_for_and_the_rest_is_forgotten() {
    let mut board = ready_board(capacity(1, 2));
    let mut engine = Engine::default();
    let all: Vec<String> = (10..30).map(|number| number.to_string()).collect();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    assert!(board.admit(job(1, &names)).is_none());
    engine.take(board.advance(at(NOW)));
    assert!(engine.prepare(&mut board).is_empty());
    engine.take(board.advance(at(NOW)));
    assert_eq!(engine.runs.len(), 2, "one runs and one is behind it");
    assert!(board.leave(JobKey(1)).is_none());
    engine.take(board.advance(at(NOW)));
    assert_eq!(engine.held.len(), 2, "the others are forgotten");
    assert_eq!(engine.finish(&mut board), Some(vec![]));
    let ended = engine.finish(&mut board).unwrap();
    assert_eq!(handed_over(&ended), ["10", "11"]);
    engine.take(board.advance(at(NOW)));
    assert!(engine.runs.is_empty() && engine.held.is_empty() && board.is_empty());
}

#[test]
fn a_job_of_which_all_was_started_is_completed() {
    let mut board = ready_board(capacity(1, 100));
    let mut engine = Engine::default();
    assert!(board.admit(job(1, &["a", "b"])).is_none());
    engine.take(board.advance(at(NOW)));
    engine.prepare(&mut board);
    engine.take(board.advance(at(NOW)));
    assert!(board.leave(JobKey(1)).is_none());
    let ended = engine.finish(&mut board).unwrap();
    assert_eq!(texts(&ended[0]), ["a", "b"]);
}

#[test]
fn a_checkpoint_on_its_way_is_waited_for() {
    let mut board = ready_board(capacity(1, 1));
    let mut engine = Engine::default();
    assert!(board.admit(job(1, &["a", "b", "c", "d"])).is_none());
    engine.take(board.advance(at(NOW)));
    engine.prepare(&mut board);
    engine.take(board.advance(at(NOW)));
    engine.finish(&mut board);
    assert_eq!(board.checkpoint(JobKey(1), usize::MAX).len(), 1);
    assert!(board.leave(JobKey(1)).is_none());
    assert_eq!(engine.finish(&mut board), Some(vec![]), "the checkpoint has no answer yet");
    let ended = board.checkpoint_stored(JobKey(1)).unwrap();
    assert_eq!(handed_over(&[ended]), ["b"], "what is stored is not sent again");
}

#[test]
fn when_the_engine_goes_too_the_job_leaves_with_what_is_done() {
    let mut board = ready_board(capacity(1, 1));
    let mut engine = Engine::default();
    assert!(board.admit(job(1, &["a", "b", "c", "d"])).is_none());
    engine.take(board.advance(at(NOW)));
    engine.prepare(&mut board);
    engine.take(board.advance(at(NOW)));
    engine.finish(&mut board);
    assert!(board.leave(JobKey(1)).is_none());
    let ended = board.engine_lost("was killed", "ENGINE_KILLED", Blame::Named);
    assert_eq!(handed_over(&ended), ["a"]);
    assert!(board.is_empty());
}

#[test]
fn an_estimate_needs_an_engine_and_a_measurement() {
    let mut board = Board::new();
    assert!(board.admit(job(1, &["a"; 100])).is_none());
    assert!(board.too_long_for(Duration::ZERO).is_empty(), "no engine");
    board.engine_ready(capacity(1, 10), None);
    assert!(board.too_long_for(Duration::ZERO).is_empty(), "nothing measured");
    let mut engine = Engine::default();
    engine.take(board.advance(at(NOW)));
    engine.prepare(&mut board);
    engine.take(board.advance(at(NOW)));
    engine.finish(&mut board);
    // Ten items took 10 ms, so 90 take 90 ms and a margin.
    assert_eq!(board.too_long_for(Duration::from_millis(100)), [JobKey(1)]);
    assert!(board.too_long_for(Duration::from_millis(130)).is_empty());
    assert!(board.admit(job(2, &["a"; 10])).is_none());
    assert_eq!(board.too_long_for(Duration::from_millis(50)), [JobKey(1)], "the other fits");
}

#[test]
fn what_is_left_to_do_is_what_its_items_take_and_nothing_when_all_is_done() {
    let mut board = Board::new();
    assert_eq!(board.time_left(), Some(Duration::ZERO), "no engine, and nothing to do");
    assert!(board.admit(job(1, &["a"; 30])).is_none());
    assert_eq!(board.time_left(), None, "no engine");
    board.engine_ready(capacity(1, 10), None);
    assert_eq!(board.time_left(), None, "nothing measured");
    let mut engine = Engine::default();
    let mut left = Vec::new();
    while !board.is_empty() {
        engine.take(board.advance(at(NOW)));
        engine.prepare(&mut board);
        engine.take(board.advance(at(NOW)));
        drop(engine.finish(&mut board));
        left.push(board.time_left().expect("one batch has come back"));
    }
    // Ten items take 10 ms and a quarter more.
    assert_eq!(left, [25_000, 12_500, 0].map(Duration::from_micros));
    assert!(board.admit(job(2, &["a"; 30])).is_none());
    assert!(board.admit(job(3, &["a"; 50])).is_none());
    assert_eq!(board.time_left(), Some(Duration::from_millis(100)), "as fast as those before");
}

proptest! {
    /// Whatever was started when the job leaves is in what it leaves with, in order and without a gap, and
    /// nothing is started afterwards but what fills gaps.
    #[test]
    fn nothing_that_was_computed_is_lost(
        items in 1_usize..60,
        lanes in 1_usize..4,
        budget in 1_u32..20,
        before in 0_usize..20,
        shuffle in any::<bool>(),
    ) {
        let mut board = ready_board(capacity(lanes, budget));
        let mut engine = Engine::default();
        let names: Vec<String> = (0..items).map(|item| format!("{item}")).collect();
        let refs: Vec<&str> = names.iter().map(String::as_str).collect();
        prop_assert!(board.admit(job(1, &refs)).is_none());
        let mut ended = Vec::new();
        for _ in 0..before {
            engine.take(board.advance(at(NOW)));
            if shuffle {
                engine.prepares.make_contiguous().reverse();
            }
            ended.extend(engine.prepare(&mut board));
            engine.take(board.advance(at(NOW)));
            if shuffle {
                engine.runs.make_contiguous().reverse();
            }
            ended.extend(engine.finish(&mut board).unwrap_or_default());
        }
        if !ended.is_empty() {
            return Ok(());
        }
        let started: usize = engine.runs.iter().map(|(_, items)| items.len()).sum();
        ended.extend(board.leave(JobKey(1)));
        let mut rounds = 0;
        while ended.is_empty() {
            engine.take(board.advance(at(NOW)));
            ended.extend(engine.prepare(&mut board));
            ended.extend(engine.finish(&mut board).unwrap_or_default());
            rounds += 1;
            prop_assert!(rounds < 200, "it never leaves");
        }
        let (Outcome::Completed { parts, .. } | Outcome::HandedOver { parts }) =
            ended.remove(0).outcome
        else {
            panic!("it failed")
        };
        let outcome = Outcome::Completed { parts, busy: Duration::ZERO };
        let left = texts(&Ended { key: JobKey(1), outcome });
        prop_assert_eq!(&left[..], &names[..left.len()]);
        prop_assert!(left.len() >= started);
        engine.take(board.advance(at(NOW)));
        prop_assert!(engine.held.is_empty() && engine.runs.is_empty());
    }
}
