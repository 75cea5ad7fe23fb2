//! Orders of operators, which go above what the autoscaler may do of its own.

use crate::fleet::ledger::{EndOrder, Mode, Presence, State};

use super::stage::Stage;
use super::{Command, MIN};

#[test]
fn an_operators_order_for_one_machine_is_carried_out_although_all_is_frozen() {
    let mut stage = Stage::new();
    let busy = stage.ready(2, 3);
    stage.mode = Mode::Freeze;
    let order = |stage: &mut Stage, machine, within| {
        let order = EndOrder { by: "ann".into(), why: "its disk is odd".into(), within };
        let after = order.carry_out(&stage.ledger.entries[&machine], stage.now).unwrap();
        stage.ledger.entries.insert(machine, after);
    };
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
