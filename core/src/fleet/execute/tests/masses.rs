//! Many machines at once: what is taken back, and what may not end without an operator.

use super::*;

const FLEET: u32 = 20;

fn held(done: &Executed) -> Option<(u32, u32)> {
    done.findings.iter().find_map(|finding| {
        let Finding::MassTermination { held, allowed } = finding else { return None };
        Some((*held, *allowed))
    })
}

fn ends(done: &Executed) -> usize {
    let is_end = |command: &&Command| matches!(command, Command::Terminate { .. });
    done.commands.iter().filter(is_end).count()
}

#[test]
fn a_plan_that_takes_every_ready_machine_for_dead_ends_only_a_few() {
    let mut stage = Stage::new();
    let machines = stage.ready(FLEET, 4);
    // Nobody was heard for a while, as when the coordinator's list is wrong.
    stage.pass(MIN * 6);
    stage.take_for_dead(&machines);
    let done = stage.step();
    assert_eq!((ends(&done), held(&done)), (3, Some((17, 3))));
    assert_eq!(stage.in_state(StateKind::Ready).len(), 17);
    // The same plan, step after step: no more within the guard's window.
    for _ in 0..8 {
        stage.pass(MIN);
        stage.take_for_dead(&machines);
        let _ = stage.step();
        assert_eq!(stage.in_state(StateKind::Ready).len(), 17);
    }
    stage.pass(MIN * 3);
    stage.take_for_dead(&machines);
    let _ = stage.step();
    assert_eq!(stage.in_state(StateKind::Ready).len(), 14, "the next few");
}

#[test]
fn a_plan_that_ends_every_ready_machine_ends_none_that_works() {
    let mut stage = Stage::new();
    let machines = stage.ready(FLEET, 4);
    stage.terminate_all(&machines);
    let done = stage.step();
    assert_eq!(ends(&done), 0, "{done:?}");
    assert_eq!(stage.in_state(StateKind::Draining).len(), machines.len(), "they finish first");
    // Their time is up and they are still at it, all at once.
    stage.plan = None;
    for machine in &machines {
        stage.worker(*machine, Presence::Draining, 4);
    }
    stage.pass(MIN * 61);
    stage.hear();
    let done = stage.step();
    assert_eq!((ends(&done), held(&done)), (3, Some((17, 3))));
}

#[test]
fn a_fleet_that_is_taken_back_at_once_is_replaced_within_the_cap_on_launches() {
    let mut stage = Stage::new();
    stage.policy.budget = Budget { max_launches: 24, ..Budget::default() };
    let machines = stage.ready(FLEET, 4);
    for machine in &machines {
        stage.relist(*machine, MachineState::Ended(EndedBy::Interruption));
    }
    let replaced = |stage: &Stage| {
        let new = |id: &&MachineId| !machines.contains(id);
        stage.machines().iter().filter(new).count()
    };
    for minute in 0..10 {
        stage.want(FLEET);
        let done = stage.step();
        assert_eq!(ends(&done), 0, "what is gone is not ended again: {done:?}");
        // Four were left of the ten minutes in which the first twenty were bought.
        assert_eq!(replaced(&stage), 4, "after {minute} minutes");
        stage.pass(MIN);
    }
    for machine in &machines {
        let found = &stage.ledger.entries[machine].state;
        let State::Gone { why, .. } = found else { panic!("{found:?}") };
        assert_eq!(*why, Ending::Interrupted);
    }
    stage.pass(MIN * 2);
    stage.want(FLEET - 4);
    let _ = stage.step();
    assert_eq!(replaced(&stage), 20, "the cap has let the rest through");
}
