//! Who pays for a crash: the job that causes it, within its budget, and nobody else for long.

use proptest::prelude::*;
use stoker_engine_api::MAX_PREPARE_THREADS;

use super::*;

/// Crashes after which a coordinator gives a job up.
const BUDGET: u32 = 3;

/// The jobs of batches and of `Prepare` messages that the engine has not answered.
pub(super) fn under_way(board: &Board) -> BTreeSet<JobKey> {
    let running = board.running.values().flat_map(|batch| &batch.items).map(|item| item.job);
    running.chain(board.preparing.iter().flat_map(|message| message.jobs.clone())).collect()
}

/// A coordinator and an engine around one board: whatever crashes comes back and runs alone.
struct Fleet {
    board: Board,
    engine: Engine,
    capacity: Capacity,
    texts: BTreeMap<u64, Vec<&'static str>>,
    crashes: BTreeMap<u64, u32>,
    completed: BTreeSet<u64>,
    now: i64,
}

impl Fleet {
    fn new(capacity: Capacity) -> Self {
        Self {
            board: ready_board(capacity),
            engine: Engine::default(),
            capacity,
            texts: BTreeMap::new(),
            crashes: BTreeMap::new(),
            completed: BTreeSet::new(),
            now: NOW,
        }
    }

    fn submit(&mut self, key: u64, texts: Vec<&'static str>) {
        self.texts.insert(key, texts);
        self.admit(key, Turn::Shared);
    }

    fn admit(&mut self, key: u64, turn: Turn<u64>) {
        let alone = turn != Turn::Shared;
        let (granted_at, start_by) = (at(self.now), at(self.now));
        let admission = Admission { alone, granted_at, start_by, ..job(key, &self.texts[&key]) };
        assert!(self.board.admit(admission).is_none());
    }

    /// One round: everything is prepared, then one batch ends, or kills the engine.
    fn round(&mut self) {
        self.now += 1;
        self.engine.take(self.board.advance(at(self.now)));
        let dies = |engine: &Engine, keys: &[ItemKey], word: &str| {
            keys.iter().any(|key| engine.held.get(key).is_some_and(|text| text == word))
        };
        loop {
            let mut begun = self.engine.prepares.iter().take(MAX_PREPARE_THREADS);
            if begun.any(|keys| dies(&self.engine, keys, "kill-prepare")) {
                return self.crash();
            }
            let Some(ended) = self.engine.prepare_one(&mut self.board) else { break };
            self.end(ended);
        }
        self.engine.take(self.board.advance(at(self.now)));
        let mut begun = self.engine.runs.iter().take(self.capacity.lanes);
        if begun.any(|(_, keys)| dies(&self.engine, keys, "kill")) {
            return self.crash();
        }
        let ended = self.engine.finish(&mut self.board).unwrap_or_default();
        self.end(ended);
    }

    fn crash(&mut self) {
        let ended = self.board.engine_lost("died", "ENGINE_CRASHED", Blame::Open);
        self.engine = Engine::default();
        self.board.engine_ready(self.capacity, None);
        self.end(ended);
    }

    fn end(&mut self, ended: Vec<Ended>) {
        for Ended { key: JobKey(key), outcome } in ended {
            let Outcome::Failed(failure) = outcome else {
                assert!(self.completed.insert(key), "{key} completed twice");
                continue;
            };
            assert_eq!(failure.kind, FailureKind::Crash);
            let crashes = self.crashes.entry(key).or_default();
            *crashes += 1;
            if *crashes < BUDGET {
                self.admit(key, Turn::Alone(key));
            }
        }
    }

    fn run_all(&mut self) {
        for _ in 0..100_000 {
            if self.board.is_empty() {
                return;
            }
            self.round();
        }
        panic!("never ends: {:?}", self.board.keys().collect::<Vec<_>>());
    }
}

#[test]
fn a_large_job_beside_a_job_that_kills_the_engine_is_not_taken_for_poison() {
    for killer in ["kill", "kill-prepare"] {
        let mut fleet = Fleet::new(capacity(2, 64));
        fleet.submit(1, vec!["x"; 10_000]);
        fleet.round();
        fleet.submit(2, vec!["a", killer]);
        for _ in 0..5 {
            fleet.round();
        }
        fleet.submit(3, vec!["b"; 10]);
        fleet.run_all();
        assert_eq!(fleet.crashes[&2], BUDGET, "the killer is found out within its budget");
        assert_eq!(fleet.completed, BTreeSet::from([1, 3]));
        let innocent = [1, 3].map(|key| fleet.crashes.get(&key).copied().unwrap_or(0));
        assert!(innocent.iter().all(|crashes| *crashes <= 1), "{innocent:?}");
    }
}

#[test]
fn suspects_run_one_after_another_each_with_all_lanes() {
    let mut board = ready_board(capacity(2, 2));
    assert!(board.admit(Admission { alone: true, ..job(1, &["a"; 8]) }).is_none());
    assert!(board.admit(Admission { alone: true, ..job(2, &["b"; 2]) }).is_none());
    assert!(board.admit(job(3, &["c"])).is_none());
    let mut engine = Engine::default();
    let (mut order, mut most_batches) = (Vec::<JobKey>::new(), 0);
    while !board.is_empty() {
        engine.take(board.advance(at(NOW)));
        assert!(engine.prepare(&mut board).is_empty());
        let step = board.advance(at(NOW));
        order.extend(step.started.iter().flat_map(|started| started.jobs.clone()));
        engine.take(step);
        let jobs = under_way(&board);
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        most_batches = most_batches.max(engine.runs.len());
        let _ = engine.finish(&mut board);
    }
    order.dedup();
    assert_eq!(order, [JobKey(1), JobKey(2), JobKey(3)]);
    assert_eq!(most_batches, 3, "both lanes, and the place behind them");
}

#[test]
fn a_suspect_s_turn_comes_though_the_engine_holds_all_it_may_of_others() {
    let mut board = ready_board(capacity(1, 1_000));
    let mut engine = Engine::default();
    for key in 0..600 {
        let patient = Admission { start_by: at(NOW + 1), ..job(key, &["x"; PREPARING_PER_JOB]) };
        assert!(board.admit(patient).is_none());
    }
    engine.take(board.advance(at(NOW)));
    assert!(engine.held.len() >= 65_536, "{}", engine.held.len());
    // It comes before anything runs, so that nothing but its own turn makes room.
    assert!(board.admit(Admission { alone: true, ..job(601, &["s"]) }).is_none());
    let ended = run_all(&mut board, &mut engine);
    assert_eq!(ended.len(), 601);
    assert_eq!(ended[0].key, JobKey(601), "the most urgent of all");
}

#[test]
fn parts_of_a_failed_batch_wait_for_their_own_turn() {
    let mut board = ready_board(capacity(1, 100));
    let mut engine = Engine::default();
    let suspect = |key, start_by| Admission { alone: true, start_by, ..job(key, &["a", "b"]) };
    assert!(board.admit(suspect(1, at(NOW + 10))).is_none());
    engine.take(board.advance(at(NOW)));
    assert!(engine.prepare(&mut board).is_empty());
    engine.take(board.advance(at(NOW)));
    assert!(board.admit(suspect(2, at(NOW))).is_none());
    assert!(engine.fail(&mut board, &oom()).is_empty());
    let ended = run_all(&mut board, &mut engine);
    assert_eq!(ended.iter().map(|ended| ended.key.0).collect::<Vec<_>>(), [2, 1]);
}

proptest! {
    #[test]
    fn whatever_kills_engines_no_innocent_is_charged_twice(
        jobs in proptest::collection::vec((1..60_usize, 0..8_u8), 1..12),
        lanes in 1..4_usize,
        gap in 0..6_usize,
    ) {
        let mut fleet = Fleet::new(capacity(lanes, 16));
        let mut killers = BTreeSet::new();
        for (key, (items, kind)) in (0..).zip(jobs) {
            let mut texts = vec!["x"; items];
            if let Some(word) = ["kill", "kill-prepare"].get(usize::from(kind)) {
                texts[items / 2] = word;
                killers.insert(key);
            }
            fleet.submit(key, texts);
            for _ in 0..gap {
                fleet.round();
            }
        }
        fleet.run_all();
        for key in fleet.texts.keys() {
            let crashes = fleet.crashes.get(key).copied().unwrap_or(0);
            if killers.contains(key) {
                prop_assert_eq!(crashes, BUDGET);
            } else {
                prop_assert!(crashes <= 1, "{} is charged with {}", key, crashes);
                prop_assert!(fleet.completed.contains(key));
            }
        }
    }

    #[test]
    fn a_suspect_waits_for_what_was_there_before_it_and_no_longer(
        before in proptest::collection::vec(1..40_usize, 0..5),
        flood in 1..4_usize,
        lanes in 1..4_usize,
    ) {
        let mut fleet = Fleet::new(capacity(lanes, 8));
        let mut items_before = 0;
        for (key, items) in (0..).zip(&before) {
            fleet.submit(key, vec!["x"; *items]);
            items_before += items;
        }
        let suspect = 1_000;
        fleet.now += 1;
        fleet.texts.insert(suspect, vec!["s"]);
        fleet.admit(suspect, Turn::Alone(suspect));
        // A round ends a batch, which holds at least one item. New jobs come all the time.
        let mut key = 2_000;
        for _ in 0..=items_before + lanes + 2 {
            for _ in 0..flood {
                key += 1;
                fleet.now += 1;
                fleet.submit(key, vec!["y"; 10]);
            }
            fleet.round();
        }
        prop_assert!(fleet.completed.contains(&suspect), "starved");
    }
}
