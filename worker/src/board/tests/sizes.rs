//! How large batches are.

use stoker_engine_api::LoadSeconds;

use super::*;

/// Runs a board's jobs of one-token texts on an engine that takes a microsecond for each, and says how large the last
/// batch was.
fn last_batch(board: &mut Board, jobs: std::ops::Range<u64>) -> usize {
    let mut engine = Engine::default();
    let texts = vec!["a"; 400];
    let mut last = 0;
    for key in jobs {
        assert_eq!(board.admit(job(key, &texts)), None);
        engine.take(board.advance(at(NOW)));
        loop {
            let _ = engine.prepare(board);
            engine.take(board.advance(at(NOW)));
            let Some((batch, items)) = engine.runs.pop_front() else { break };
            last = items.len();
            let outputs =
                items.iter().map(|key| ItemOutput::Text(engine.held.remove(key).unwrap()));
            let busy = Duration::from_micros(u64::try_from(last).unwrap());
            let _ = board.done(batch, outputs.collect(), busy).unwrap();
        }
    }
    last
}

#[test]
fn batches_become_as_small_as_costs_nothing() {
    let limits = Capacity { lanes: 1, max_tokens: 128, max_items: 1_000 };
    let mut board = ready_board(limits);
    assert_eq!(board.batch_tokens(), Some(128));
    last_batch(&mut board, 0..300);
    let learned = board.batch_tokens().unwrap();
    assert!(learned < 64, "{learned}");
    // What was learned is of the device: a new process of the engine does not lose it.
    let _ = board.engine_lost("ended", "ENGINE_LOST", Blame::Open);
    assert_eq!(board.batch_tokens(), None);
    board.engine_ready(limits, None);
    assert_eq!(board.batch_tokens(), Some(learned));
}

#[test]
fn a_setting_never_asks_for_more_than_the_engine_found_to_fit() {
    let info = EngineInfo {
        model: "m".into(),
        task: TaskKind::TextEmbedding,
        output_dimensions: Some(1),
        labels: None,
        max_tokens: 256,
        max_batch_tokens: 4_096,
        weights_bytes: 1,
        weights_sha256: None,
        lanes: 1,
        device: "cuda:0".into(),
        load: LoadSeconds::default(),
    };
    let most = |setting| Capacity::of(&info, setting).max_tokens;
    assert_eq!([None, Some(512), Some(16_384)].map(most), [4_096, 512, 4_096]);
}
