//! Models that take turns in memory.

use proptest::collection::vec;
use proptest::prelude::*;
use stoker_proto::v1::{Needs, ResidencyState};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// What engines were asked to do, since the last look.
fn steps(probe: &mut Probe) -> Vec<String> {
    let mut steps = Vec::new();
    probe.effects.retain(|effect| match effect {
        Effect::StartEngine { index } => {
            steps.push(format!("start {index}"));
            false
        }
        Effect::StopEngine { index } => {
            steps.push(format!("stop {index}"));
            false
        }
        _ => true,
    });
    steps
}

/// The coordinator tells of jobs by model, and how many seconds the first of them has.
fn told(probe: &mut Probe, needs: &[(&str, u64, i64)]) {
    let need = |(model, jobs, slack): &(&str, u64, i64)| v1::ModelNeed {
        model: (*model).to_owned(),
        jobs: *jobs,
        slack_ms: slack * 1_000,
    };
    let needs = Needs { models: needs.iter().map(need).collect() };
    probe.apply(Event::Session(SessionNews::Needs(needs)));
}

/// Where each model is, and why, as the next heartbeat says.
fn seats(probe: &Probe) -> Vec<(ResidencyState, String)> {
    let residency = probe.state.wire_residency(probe.now);
    residency.models.into_iter().map(|model| (model.state(), model.why)).collect()
}

fn text() -> Vec<ItemInput> {
    vec![ItemInput::Text("a".to_owned())]
}

/// With memory for two of three models; `b` has been needed, and `a` fills what is left.
fn two_of_three() -> Probe {
    let mut probe = Probe::sharing(&["a", "b", "c"], 20);
    probe.register();
    told(&mut probe, &[("b", 1, 60)]);
    assert_eq!(steps(&mut probe), ["start 1"]);
    probe.later(SECOND);
    probe.engine_ready_of(1);
    assert_eq!(probe.gates(), [true]);
    told(&mut probe, &[]);
    assert!(steps(&mut probe).is_empty(), "loads for nobody are a small part of the time");
    probe.later(SECOND * 9);
    assert_eq!(steps(&mut probe), ["start 0"]);
    probe.later(SECOND);
    probe.engine_ready_of(0);
    assert_eq!(probe.gates(), [true]);
    probe
}

#[test]
fn all_models_are_loaded_at_once_where_there_is_memory_for_them() {
    let mut probe = Probe::sharing(&["a", "b"], 20);
    probe.look();
    assert_eq!(steps(&mut probe), ["start 0", "start 1"]);
    probe.register();
    probe.engine_ready_of(0);
    assert!(probe.state.readiness().is_err(), "it is ready with all of them");
    probe.engine_ready_of(1);
    let all = (ResidencyState::Resident, "there is memory for all models".to_owned());
    assert_eq!(seats(&probe), [all.clone(), all]);
    assert!(!probe.state.wire_residency(probe.now).shared);
    probe.later(Duration::from_hours(1));
    assert!(steps(&mut probe).is_empty());
}

#[test]
fn nothing_is_loaded_for_nobody_before_it_may_be_known_what_is_needed() {
    let mut probe = Probe::sharing(&["a", "b"], 10);
    probe.register();
    assert!(steps(&mut probe).is_empty());
    assert!(probe.state.readiness().unwrap_err().contains("no model is loaded"));
    assert!(probe.state.wake_at().is_some_and(|at| at <= probe.now.after(SECOND * 5)));
    probe.later(SECOND * 5);
    assert_eq!(steps(&mut probe), ["start 0"], "a coordinator that tells nothing");
    probe.engine_ready_of(0);
    assert_eq!(probe.gates(), [true]);
}

#[test]
fn the_least_needed_model_leaves_and_the_next_one_comes_when_it_is_gone() {
    let mut probe = two_of_three();
    assert_eq!(seats(&probe)[0], (ResidencyState::Resident, "spare memory".to_owned()));
    assert_eq!(seats(&probe)[1], (ResidencyState::Resident, "needed 10s ago".to_owned()));
    told(&mut probe, &[("c", 1, -1)]);
    assert_eq!(steps(&mut probe), ["stop 0"]);
    assert_eq!(probe.gates(), [false], "no more of its jobs come");
    assert_eq!(seats(&probe)[2].0, ResidencyState::Loading);
    probe.engine_of(0, EngineNews::Stopped);
    assert_eq!(steps(&mut probe), ["start 2"]);
    assert_eq!(seats(&probe)[0].0, ResidencyState::Absent);
    probe.later(SECOND);
    probe.engine_ready_of(2);
    assert_eq!(probe.gates(), [true]);
    let status = probe.state.wire_residency(probe.now);
    assert!(status.shared && status.budget_bytes == 20);
}

#[test]
fn a_model_ends_with_its_jobs_before_it_leaves() {
    let mut probe = Probe::sharing(&["a", "b"], 10);
    probe.register();
    told(&mut probe, &[("a", 1, 60)]);
    probe.later(SECOND);
    probe.engine_ready_of(0);
    probe.grant_of(0, 1, text());
    assert_eq!(seats(&probe)[0].1, "busy");
    probe.later(SECOND * 3);
    steps(&mut probe);
    probe.gates();
    told(&mut probe, &[("b", 1, -1)]);
    assert_eq!((probe.gates(), steps(&mut probe)), (vec![false], vec![]));
    // One more was claimed just before.
    probe.grant_of(0, 2, text());
    probe.run_of(0, 1);
    assert!(steps(&mut probe).is_empty());
    probe.run_of(0, 1);
    assert_eq!((probe.reports().len(), steps(&mut probe)), (2, vec!["stop 0".to_owned()]));
    // Another one comes too late.
    probe.grant_of(0, 3, text());
    let reports = probe.reports();
    let last = reports.last().unwrap();
    assert!(
        matches!(last, Verdict::Release { reason: ReleaseReason::Unavailable, .. }),
        "{reports:?}"
    );
    probe.engine_of(0, EngineNews::Stopped);
    assert_eq!(steps(&mut probe), ["start 1"]);
}

#[test]
fn what_is_in_memory_stays_when_nobody_tells_what_is_needed() {
    let mut probe = two_of_three();
    probe.grant_of(1, 1, text());
    probe.later(SECOND * 9);
    told(&mut probe, &[("c", 1, 600)]);
    assert!(seats(&probe)[2].1.starts_with("its jobs can wait"), "{:?}", seats(&probe));
    probe.later(Duration::from_hours(1));
    assert!(steps(&mut probe).is_empty(), "what was told is too old to count");
    told(&mut probe, &[("c", 1, 0)]);
    assert_eq!(steps(&mut probe), ["stop 0"]);
}

#[test]
fn a_model_whose_engine_does_not_start_is_left_alone_for_a_while() {
    let mut probe = Probe::sharing(&["a", "b"], 10);
    probe.register();
    told(&mut probe, &[("a", 1, -1)]);
    assert_eq!(steps(&mut probe), ["start 0"]);
    let exit = || Exit::Fatal { message: "out of memory".into(), remedy: "none".into() };
    probe.engine_of(0, EngineNews::NotStarted { exit: exit() });
    assert_eq!(steps(&mut probe), ["stop 0"]);
    assert!(!probe.ended(), "the other model is served all the same");
    assert!(!probe.effects.iter().any(|effect| matches!(effect, Effect::End(_))));
    told(&mut probe, &[("a", 1, -1), ("b", 1, 60)]);
    probe.engine_of(0, EngineNews::Stopped);
    assert_eq!(steps(&mut probe), ["start 1"]);
    assert!(seats(&probe)[0].1.contains("did not start"), "{:?}", seats(&probe));
    probe.engine_of(1, EngineNews::NotStarted { exit: exit() });
    probe.engine_of(1, EngineNews::Stopped);
    probe.later(SECOND * 29);
    told(&mut probe, &[("a", 1, -1)]);
    assert_eq!(steps(&mut probe), ["stop 1"]);
    probe.later(SECOND);
    assert_eq!(steps(&mut probe), ["start 0"]);
}

#[test]
fn an_engine_that_needs_more_than_was_thought_makes_room_by_itself() {
    let mut probe = Probe::sharing(&["a", "b"], 20);
    probe.register();
    probe.look();
    assert_eq!(steps(&mut probe), ["start 0", "start 1"]);
    probe.engine_ready_of(0);
    probe.engine_ready_of(1);
    probe.engine_of(0, EngineNews::Measured { bytes: 3 });
    assert!(steps(&mut probe).is_empty(), "less than an engine needs is not believed");
    probe.later(SECOND * 5);
    probe.engine_of(1, EngineNews::Measured { bytes: 11 });
    assert_eq!(steps(&mut probe).len(), 1, "21 bytes of 20");
    assert!(probe.state.wire_residency(probe.now).shared);
    assert_eq!(seats(&probe)[1].1, "needed 5s ago");
}

#[test]
fn a_worker_that_goes_loads_nothing_more() {
    let mut probe = two_of_three();
    probe.state.drain(Cause::Operator, None, probe.now);
    told(&mut probe, &[("c", 9, -1)]);
    assert!(steps(&mut probe).is_empty());
}

/// What happens to a worker in [`no_step_is_wrong`].
#[derive(Debug, Clone)]
enum Play {
    Told(Vec<(usize, u64, i64)>),
    Later(u64),
    /// Whatever engines were asked to do, they have done.
    Obeyed,
    /// Engines that start do not.
    Failed,
    Died(usize),
    Granted(usize),
    /// Engines run what they have.
    Worked,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// An engine's process, as its supervisor would have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    Off,
    Starting,
    Up,
    Ending,
}

/// A worker with memory for some of its models, and its engines.
struct World {
    probe: Probe,
    processes: [Process; 4],
    room: usize,
    loads: [usize; 4],
}

impl World {
    fn new(room: usize) -> Self {
        let budget = u64::try_from(room).unwrap() * 10;
        let mut probe = Probe::sharing(&NAMES, budget);
        probe.register();
        Self { probe, processes: [Process::Off; 4], room, loads: [0; 4] }
    }

    fn play(&mut self, play: Play) {
        match play {
            Play::Told(needs) => {
                let needs: Vec<_> = needs
                    .iter()
                    .map(|(model, jobs, slack)| (NAMES[*model], *jobs, *slack))
                    .collect();
                told(&mut self.probe, &needs);
            }
            Play::Later(seconds) => self.probe.later(SECOND * u32::try_from(seconds).unwrap()),
            Play::Obeyed => self.obey(),
            Play::Failed => {
                for index in self.those(Process::Starting) {
                    let exit = Exit::Signal { signal: 9 };
                    self.probe.engine_of(index, EngineNews::NotStarted { exit });
                }
            }
            Play::Died(index) => {
                if self.processes[index] == Process::Up {
                    let exit = Exit::Signal { signal: 9 };
                    // What it was to do is void.
                    self.probe.effects.retain(|effect| {
                        !matches!(effect, Effect::Message { index: of, .. } if *of == index)
                    });
                    self.probe.engine_of(index, EngineNews::Lost { exit });
                    self.processes[index] = Process::Starting;
                }
            }
            Play::Granted(index) => {
                let inputs = vec![ItemInput::Text("a".to_owned())];
                self.probe.grant_of(index, u8::try_from(index).unwrap(), inputs);
            }
            Play::Worked => self.work(),
        }
        self.check();
    }

    fn those(&self, process: Process) -> Vec<usize> {
        (0..4).filter(|index| self.processes[*index] == process).collect()
    }

    fn obey(&mut self) {
        for index in self.those(Process::Starting) {
            // It may have been asked to end by what became of the one before.
            if self.processes[index] != Process::Starting {
                continue;
            }
            self.processes[index] = Process::Up;
            self.loads[index] += 1;
            self.probe.engine_ready_of(index);
            self.check();
        }
        for index in self.those(Process::Ending) {
            self.processes[index] = Process::Off;
            self.probe.engine_of(index, EngineNews::Stopped);
            self.check();
        }
    }

    fn work(&mut self) {
        let next = |probe: &mut Probe| {
            let at = probe.effects.iter().position(|e| matches!(e, Effect::Message { .. }))?;
            Some(probe.effects.remove(at))
        };
        while let Some(Effect::Message { index, message, .. }) = next(&mut self.probe) {
            let news = match message {
                ToEngine::Prepare { items } => EngineNews::Prepared {
                    items: items.into_iter().map(|(key, _)| (key, Ok(100))).collect(),
                },
                ToEngine::Run { batch, items } => EngineNews::Done {
                    batch,
                    outputs: items.iter().map(|_| ItemOutput::Text("a".to_owned())).collect(),
                    busy: SECOND,
                },
                _ => continue,
            };
            if self.processes[index] == Process::Up {
                self.probe.engine_of(index, news);
                self.check();
            }
        }
    }

    /// Follows what was asked of engines, which must make sense.
    fn check(&mut self) {
        for effect in std::mem::take(&mut self.probe.effects) {
            match effect {
                Effect::StartEngine { index } => {
                    assert_eq!(self.processes[index], Process::Off);
                    self.processes[index] = Process::Starting;
                }
                Effect::StopEngine { index } => {
                    let stopped = self.processes[index];
                    assert!(matches!(stopped, Process::Starting | Process::Up), "{stopped:?}");
                    assert!(self.probe.state.models[index].board.is_empty(), "it has jobs");
                    self.processes[index] = Process::Ending;
                }
                Effect::End(end) => panic!("{end:?}"),
                other => self.probe.effects.push(other),
            }
        }
        let here = 4 - self.those(Process::Off).len();
        assert!(here <= self.room, "{here} of {}", self.room);
    }
}

fn plays() -> impl Strategy<Value = Vec<Play>> {
    let need = (0_usize..4, 1_u64..9, -9_i64..99);
    let play = prop_oneof![
        2 => vec(need, 0..4).prop_map(Play::Told),
        2 => (0_u64..20).prop_map(Play::Later),
        4 => Just(Play::Obeyed),
        1 => Just(Play::Failed),
        1 => (0_usize..4).prop_map(Play::Died),
        2 => (0_usize..4).prop_map(Play::Granted),
        2 => Just(Play::Worked),
    ];
    vec(play, 0..80)
}

proptest! {
    /// Whatever happens, engines are started once at a time and within the budget, and none ends that has jobs; and
    /// once nothing goes wrong any more, every model that is waited for gets its turn.
    #[test]
    fn no_step_is_wrong(room in 1_usize..4, plays in plays()) {
        let mut world = World::new(room);
        for play in plays {
            world.play(play);
        }
        world.loads = [0; 4];
        for _ in 0..400 {
            let late = (0..4).filter(|index| world.loads[*index] == 0 && world.processes[*index] != Process::Up);
            let needs: Vec<_> = late.map(|index| (index, 1, -1)).collect();
            if needs.is_empty() {
                return Ok(());
            }
            for play in [Play::Told(needs), Play::Obeyed, Play::Worked, Play::Later(5)] {
                world.play(play);
            }
        }
        prop_assert!(false, "some never get their turn: {:?}", world.loads);
    }
}
