//! Random lives of a board: whatever happens, every item ends once and limits hold.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step_ {
    Admit { items: usize, alone: bool },
    Prepare,
    Finish,
    OutOfMemory,
    Crash,
    Remove(usize),
    Checkpoint { stored: bool },
}

fn step() -> impl Strategy<Value = Step_> {
    prop_oneof![
        3 => (1..40_usize, proptest::bool::weighted(0.2))
            .prop_map(|(items, alone)| Step_::Admit { items, alone }),
        6 => Just(Step_::Prepare),
        8 => Just(Step_::Finish),
        1 => Just(Step_::OutOfMemory),
        1 => Just(Step_::Crash),
        1 => (0..5_usize).prop_map(Step_::Remove),
        2 => proptest::bool::ANY.prop_map(|stored| Step_::Checkpoint { stored }),
    ]
}

/// What the outside world knows: which items of which job it has.
#[derive(Debug, Default)]
struct World {
    admitted: BTreeMap<JobKey, u32>,
    stored: BTreeMap<JobKey, u32>,
    ended: BTreeSet<JobKey>,
}

impl World {
    fn store(&mut self, key: JobKey, parts: &[ResultPart]) {
        let next = self.stored.entry(key).or_default();
        for part in parts {
            assert_eq!(part.first_item, *next, "a gap or a repetition in {key:?}");
            *next += part.items;
        }
    }

    fn end(&mut self, ended: Vec<Ended>) {
        for Ended { key, outcome } in ended {
            assert!(self.ended.insert(key), "{key:?} ended twice");
            if let Outcome::Completed { parts, .. } = outcome {
                self.store(key, &parts);
                assert_eq!(self.stored[&key], self.admitted[&key], "{key:?} is not complete");
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_or_doubled(steps in proptest::collection::vec(step(), 1..120)) {
        let mut board = ready_board(capacity(2, 8));
        let mut engine = Engine::default();
        let mut world = World::default();
        let mut suspects = BTreeSet::new();
        let mut now = NOW;
        for step in steps {
            now += 1;
            match step {
                Step_::Admit { items, alone } => {
                    let key = u64::try_from(world.admitted.len()).unwrap();
                    let total = u32::try_from(items).unwrap();
                    world.admitted.insert(JobKey(key), total);
                    suspects.extend(alone.then_some(JobKey(key)));
                    let admission = Admission { alone, ..job(key, &vec!["ab"; items]) };
                    prop_assert!(board.admit(admission).is_none());
                }
                Step_::Prepare => world.end(engine.prepare(&mut board)),
                Step_::Finish => world.end(engine.finish(&mut board).unwrap_or_default()),
                Step_::OutOfMemory if !engine.runs.is_empty() => {
                    world.end(engine.fail(&mut board, &oom()));
                }
                Step_::OutOfMemory => {}
                Step_::Crash => {
                    world.end(board.engine_lost("died", "ENGINE_CRASHED", Blame::Open));
                    engine = Engine::default();
                    board.engine_ready(capacity(2, 8), None);
                }
                Step_::Remove(nth) => {
                    let key = board.keys().nth(nth);
                    if let Some(key) = key {
                        let parts = board.remove(key).unwrap();
                        world.store(key, &parts);
                        world.ended.insert(key);
                    }
                }
                Step_::Checkpoint { stored } => {
                    let keys: Vec<JobKey> = board.keys().collect();
                    for key in keys {
                        let parts = board.checkpoint(key, usize::MAX);
                        let ended = if stored {
                            world.store(key, &parts);
                            board.checkpoint_stored(key)
                        } else {
                            board.checkpoint_lost(key)
                        };
                        world.end(ended.into_iter().collect());
                    }
                }
            }
            engine.take(board.advance(at(now)));
            prop_assert!(engine.runs.len() <= 3);
            let under_way = crashes::under_way(&board);
            let suspects = under_way.iter().filter(|key| suspects.contains(key)).count();
            prop_assert!(suspects == 0 || under_way.len() == 1, "beside a suspect: {under_way:?}");
        }
        world.end(run_all(&mut board, &mut engine));
        prop_assert!(board.is_empty());
        prop_assert_eq!(world.ended.len(), world.admitted.len());
        prop_assert!(engine.held.is_empty(), "the engine keeps {:?}", engine.held);
    }
}
