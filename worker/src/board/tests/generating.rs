//! Texts that come bit by bit: what is begun is told, and an engine that comes after another goes on behind it.

use stoker_engine_api::{GenerationInput, GenerationSettings, Piece, Prompt};
use stoker_proto::v1::{BegunText, BegunTexts};

use super::*;

const JOB: JobKey = JobKey(1);

fn prompt() -> ItemInput {
    let settings = GenerationSettings::greedy(9);
    let prompt = Prompt::Text("a".to_owned());
    ItemInput::Generation(Box::new(GenerationInput { prompt, settings, generated: Vec::new() }))
}

/// A board on which both prompts of a job are with the engine, each in a batch of its own.
fn board() -> Board {
    let mut board = ready_board(Capacity { lanes: 2, max_tokens: 100, max_items: 1 });
    let admission = Admission { inputs: vec![prompt(), prompt()], ..job(JOB.0, &[]) };
    assert!(board.admit(admission).is_none());
    board
}

/// What the engine was given: what was generated before of each item, and the batch of each.
fn start(board: &mut Board) -> Vec<(Vec<u32>, ItemKey, u64)> {
    let (mut given, mut batches) = (Vec::new(), Vec::new());
    // Once to prepare, once to run.
    for _ in 0..2 {
        for message in board.advance(at(NOW)).messages {
            match message {
                ToEngine::Prepare { items } => {
                    let keys = items.iter().map(|(key, _)| (*key, Ok(10))).collect();
                    given.extend(items);
                    assert!(board.prepared(keys, at(NOW)).is_empty());
                }
                ToEngine::Run { batch, items } => batches.push((batch, items)),
                other => panic!("{other:?}"),
            }
        }
    }
    let of = |(key, input): (ItemKey, ItemInput)| {
        let ItemInput::Generation(input) = input else { panic!("{input:?}") };
        let batch = batches.iter().find(|(_, items)| *items == [key]).unwrap().0;
        (input.generated, key, batch)
    };
    given.into_iter().map(of).collect()
}

fn piece(tokens_before: usize, tokens: &[u32]) -> Piece {
    Piece { tokens_before, tokens: tokens.to_vec(), ..Piece::default() }
}

fn begun(texts: &[(u32, &[u32])]) -> BegunTexts {
    let text = |(item, tokens): &(u32, &[u32])| BegunText { item: *item, tokens: tokens.to_vec() };
    BegunTexts { texts: texts.iter().map(text).collect() }
}

#[test]
fn what_is_begun_is_told_until_it_is_done() {
    let mut board = board();
    assert_eq!(board.begun(JOB), None);
    let started = start(&mut board);
    let [(_, first, first_batch), (_, second, second_batch)] = started[..] else {
        panic!("{started:?}")
    };
    board.said(first_batch, first, piece(0, &[5]));
    board.said(second_batch, second, piece(0, &[7, 8]));
    board.said(first_batch, first, piece(1, &[6]));
    // Not what it was asked.
    board.said(second_batch, first, piece(2, &[9]));
    assert_eq!(board.begun(JOB), Some(begun(&[(0, &[5, 6]), (1, &[7, 8])])));
}

#[test]
fn an_engine_that_tells_all_of_a_text_again_doubles_nothing() {
    let mut board = board();
    for (lives, before) in [vec![], vec![5], vec![5, 6]].into_iter().enumerate() {
        let started = start(&mut board);
        assert_eq!(started[0].0, before);
        let (_, key, batch) = started[0];
        // All of it, and one token more.
        let tokens: Vec<u32> = (5..=5 + u32::try_from(lives).unwrap()).collect();
        board.said(batch, key, piece(0, &tokens));
        assert_eq!(board.begun(JOB), Some(begun(&[(0, &tokens)])));
        assert!(board.engine_lost("ended", "ENGINE_CRASHED", Blame::Named).is_empty());
        board.engine_ready(Capacity { lanes: 2, max_tokens: 100, max_items: 1 }, None);
    }
    // One that does not know the tokens begins anew.
    let (_, key, batch) = start(&mut board)[0];
    board.said(batch, key, piece(0, &[1]));
    assert_eq!(board.begun(JOB), Some(begun(&[(0, &[1])])));
}
