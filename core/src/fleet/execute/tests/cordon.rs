//! Machines that an operator keeps out of work.

use crate::fleet::execute::Command;
use crate::fleet::ledger::{Presence, StateKind};

use super::MIN;
use super::stage::{Stage, pool};

#[test]
fn a_cordoned_machine_is_no_capacity_and_stays() {
    let mut stage = Stage::new();
    let machine = stage.ready(1, 2)[0];
    stage.worker(machine, Presence::Cordoned, 2);
    assert_eq!(stage.planned_with(&pool()), 0);
    for running in [2, 0, 0] {
        stage.worker(machine, Presence::Cordoned, running);
        stage.pass(MIN * 90);
        stage.hear();
        let done = stage.step();
        assert!(done.commands.is_empty(), "{done:?}");
        assert_eq!(stage.state(machine), StateKind::Ready);
    }
    // The cordon is lifted.
    stage.worker(machine, Presence::Ready, 0);
    assert_eq!(stage.planned_with(&pool()), 1);
    // A worker that goes by itself takes its machine along.
    stage.worker(machine, Presence::Draining, 0);
    let _ = stage.step();
    let done = stage.step();
    assert!(matches!(done.commands[..], [Command::Terminate { .. }]), "{done:?}");
}

#[test]
fn a_machine_that_drains_does_so_whether_or_not_it_is_cordoned() {
    let mut stage = Stage::new();
    let machine = stage.ready(1, 0)[0];
    stage.drain(machine, MIN * 20);
    let _ = stage.step();
    stage.plan = None;
    stage.worker(machine, Presence::Cordoned, 0);
    stage.pass(MIN);
    stage.hear();
    let done = stage.step();
    assert!(matches!(done.commands[..], [Command::Drain { .. }]), "it is told: {done:?}");
}
