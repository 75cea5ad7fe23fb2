//! Templates whose boots fail.

use super::*;

#[test]
fn a_boot_that_never_registers_is_ended_and_a_loop_of_them_pauses_the_template() {
    let mut stage = Stage::new();
    let machines = stage.launched(3);
    stage.pass(MIN * 14);
    assert!(stage.step().commands.is_empty());
    stage.pass(MIN * 2);
    let done = stage.step();
    assert_eq!(done.commands.len(), 3, "{done:?}");
    assert!(machines.iter().all(|machine| stage.state(*machine) == StateKind::Terminating));
    stage.want(5);
    let done = stage.step();
    let is_loop = |finding: &Finding| matches!(finding, Finding::BootLoop { trips: 1, .. });
    assert!(done.findings.iter().any(is_loop), "{done:?}");
    // After the pause one is tried, and when that fails, the pause is twice as long.
    stage.pass(MIN * 5);
    stage.want(5);
    let _ = stage.step();
    let trial: Vec<MachineId> = stage.in_state(StateKind::Requested);
    assert_eq!(trial.len(), 1);
    stage.found(trial[0], 50);
    let _ = stage.step();
    stage.list(50, Some(trial[0]), MachineState::Ended(EndedBy::Request));
    let _ = stage.step();
    let breaker = &stage.ledger.account.breakers["lt-1"];
    assert_eq!((breaker.trips, breaker.open_until), (2, Some(stage.now.after(MIN * 10))));
}

#[test]
fn boots_of_one_wave_that_fail_are_one_failure() {
    let mut stage = Stage::new();
    let _ = stage.launched(12);
    stage.pass(MIN * 16);
    let _ = stage.step();
    let breaker = &stage.ledger.account.breakers["lt-1"];
    assert_eq!((breaker.trips, breaker.open_until), (1, Some(stage.now.after(MIN * 5))));
}

#[test]
fn a_registered_worker_closes_the_breaker() {
    let mut stage = Stage::new();
    let _ = stage.launched(3);
    stage.pass(MIN * 16);
    let _ = stage.step();
    stage.pass(MIN * 6);
    stage.want(1);
    let _ = stage.step();
    let trial = stage.in_state(StateKind::Requested)[0];
    stage.found(trial, 50);
    stage.worker(trial, Presence::Ready, 0);
    let _ = stage.step();
    assert_eq!(stage.state(trial), StateKind::Ready);
    assert!(stage.ledger.account.breakers.is_empty());
}
