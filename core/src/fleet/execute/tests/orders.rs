//! Orders of operators, which go above what the autoscaler may do of its own.

use std::time::Duration;

use crate::fleet::ledger::{EndOrder, Event, Leave, Mode, Presence, State, apply};
use crate::ids::MachineId;

use super::stage::Stage;
use super::{Command, MIN};

fn order(stage: &mut Stage, machine: MachineId, within: Option<Duration>) {
    let order = EndOrder { by: "ann".into(), why: "its disk is odd".into(), within };
    let after = order.carry_out(&stage.ledger.entries[&machine], stage.now).unwrap();
    stage.ledger.entries.insert(machine, after);
}

fn happens(stage: &mut Stage, machine: MachineId, event: &Event) {
    let after = apply(&stage.ledger.entries[&machine], event, stage.now).unwrap();
    stage.ledger.entries.insert(machine, after);
}

#[test]
fn an_operators_order_for_one_machine_is_carried_out_although_all_is_frozen() {
    let mut stage = Stage::new();
    let busy = stage.ready(2, 3);
    stage.mode = Mode::Freeze;
    order(&mut stage, busy[0], Some(MIN * 5));
    order(&mut stage, busy[1], None);
    let done = stage.step();
    let [Command::Drain { machine, .. }, Command::Terminate { machine: ended, .. }] =
        &done.commands[..]
    else {
        panic!("{done:?}")
    };
    assert_eq!((*machine, *ended), (busy[0], busy[1]));
    // It is not done in time: the operator has said what that means, and no guard has a say in it.
    stage.rules.guard_least = 0;
    stage.rules.guard_percent = 0;
    stage.pass(MIN * 6);
    stage.worker(busy[0], Presence::Draining, 3);
    let done = stage.step();
    let State::Terminating { why, .. } = &stage.ledger.entries[&busy[0]].state else {
        panic!("{done:?}")
    };
    assert!(why.is_ordered(), "{why}");
}

#[test]
fn an_order_for_a_machine_that_is_on_its_way_out_is_carried_out_although_all_is_frozen() {
    let mut stage = Stage::new();
    let busy = stage.ready(2, 3);
    let why = Leave::NeverRegistered;
    let drain = Event::Drain { deadline: stage.now.after(MIN), why: why.clone() };
    happens(&mut stage, busy[0], &drain);
    happens(&mut stage, busy[1], &Event::Terminate { why });
    stage.mode = Mode::Freeze;
    stage.pass(MIN * 2);
    for machine in &busy {
        stage.worker(*machine, Presence::Draining, 3);
    }
    assert_eq!(stage.step().commands, []);
    order(&mut stage, busy[0], Some(MIN * 5));
    order(&mut stage, busy[1], None);
    let done = stage.step();
    let [Command::Terminate { machine, .. }] = &done.commands[..] else { panic!("{done:?}") };
    assert_eq!(*machine, busy[1], "the other's worker has the time that the order grants");
    stage.pass(MIN * 5);
    let done = stage.step();
    let ends = |command: &Command| matches!(command, Command::Terminate { machine, .. } if *machine == busy[0]);
    assert!(done.commands.iter().any(ends), "{done:?}");
}

#[test]
fn what_an_operator_ordered_stays_ordered_whoever_hastens_it() {
    let mut stage = Stage::new();
    let busy = stage.ready(1, 3);
    order(&mut stage, busy[0], Some(MIN * 60));
    let deadline = stage.now.after(MIN);
    happens(&mut stage, busy[0], &Event::Drain { deadline, why: Leave::OverBudget });
    let State::Draining { deadline: by, why, .. } = &stage.ledger.entries[&busy[0]].state else {
        panic!("{:?}", stage.ledger.entries)
    };
    assert!(*by == deadline && why.is_ordered(), "{why} by {by}");
}

#[test]
fn a_drain_of_the_whole_fleet_ends_all_of_it_when_its_time_is_up() {
    let mut stage = Stage::new();
    let busy = stage.ready(12, 1);
    stage.mode = Mode::Drain;
    let _ = stage.step();
    let ends = |stage: &mut Stage| {
        for machine in &busy {
            stage.worker(*machine, Presence::Draining, 1);
        }
        let commands = stage.step().commands;
        commands.iter().filter(|command| matches!(command, Command::Terminate { .. })).count()
    };
    let within = stage.rules.drain_within;
    stage.pass(within.saturating_sub(MIN));
    assert_eq!(ends(&mut stage), 0, "they have work, and time");
    stage.pass(MIN);
    assert_eq!(ends(&mut stage), 12, "an operator wants them to go: no guard holds them");
}
