//! Machines that the fleet file does not speak of any more.

use crate::fleet::execute::{Command, Finding, MachineState};
use crate::fleet::ledger::{Mode, Presence, StateKind};
use crate::ids::PoolName;

use super::MIN;
use super::stage::Stage;

#[test]
fn machines_of_a_pool_that_buys_nothing_any_more_go_once_their_work_is_done() {
    let mut stage = Stage::new();
    let busy = stage.ready(1, 2)[0];
    let boots = stage.launched(1)[0];
    stage.policy.pools.clear();
    stage.mode = Mode::Freeze;
    assert!(stage.step().commands.is_empty(), "the switch holds");
    stage.mode = Mode::Run;
    let done = stage.step();
    assert_eq!(stage.state(busy), StateKind::Draining, "{done:?}");
    assert_eq!(stage.state(boots), StateKind::Terminating);
    stage.worker(busy, Presence::Draining, 0);
    stage.pass(MIN);
    stage.hear();
    let done = stage.step();
    let ends = |command: &Command| matches!(command, Command::Terminate { .. });
    assert_eq!(done.commands.iter().filter(|command| ends(command)).count(), 2, "{done:?}");
}

#[test]
fn machines_in_a_region_that_nobody_can_ask_are_told_of_and_stay_in_the_ledger() {
    let mut stage = Stage::new();
    let machine = stage.launched(1)[0];
    if let Some(entry) = stage.ledger.entries.get_mut(&machine) {
        entry.order.region = "elsewhere".to_owned();
    }
    stage.pass(MIN);
    let done = stage.step();
    let lost = Finding::RegionLost { region: "elsewhere".to_owned(), machines: 1 };
    assert!(done.findings.contains(&lost), "{done:?}");
    assert_eq!(stage.ledger.open().count(), 1);
}

#[test]
fn a_stray_machine_of_a_lost_pool_is_not_taken_for_anothers_and_ends() {
    let mut stage = Stage::new();
    stage.list(9, None, MachineState::Running);
    let lost = PoolName::new("lost").unwrap();
    for machine in &mut stage.machines {
        machine.pool = Some(lost.clone());
    }
    let _ = stage.step();
    stage.pass(MIN * 3);
    let _ = stage.step();
    let entry = &stage.ledger.entries[&stage.only()];
    assert_eq!(entry.order.pool, lost);
    assert_eq!(entry.state.kind(), StateKind::Terminating, "nobody is heard on it");
    assert!(stage.ledger.account.breakers.is_empty());
}
