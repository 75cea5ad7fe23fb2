mod breaker;
mod cordon;
mod leftovers;
mod masses;
mod money;
mod orders;
mod pauses;
mod properties;
mod quotas;
mod stage;

use std::time::Duration;

use crate::fleet::caps::Cap;
use crate::fleet::check::Budget;
use crate::fleet::ledger::{Ending, Failure, Leave, Mode, Presence, State, StateKind};
use crate::fleet::snapshot::{Notice, Reading};
use crate::ids::MachineId;
use crate::money::Money;

use super::*;
use stage::{Stage, instance};

const MIN: Duration = Duration::from_mins(1);

#[test]
fn an_intent_is_written_before_the_call_and_counts_from_then_on() {
    let mut stage = Stage::new();
    stage.want(2);
    let done = stage.step();
    assert_eq!(done.writes.entries.len(), 2);
    assert_eq!(done.commands.len(), 2);
    for command in &done.commands {
        let Command::Launch { machine } = command else { panic!("{command:?}") };
        let written = done.writes.entries.iter().find(|entry| entry.id == *machine).unwrap();
        assert_eq!(written.state, State::Requested { calls: 1 });
        assert_eq!((written.version, written.epoch), (1, stage.epoch));
    }
    assert_eq!(stage.ledger.open().count(), 2);
}

#[test]
fn a_plan_is_carried_out_once() {
    let mut stage = Stage::new();
    stage.want(2);
    let _ = stage.step();
    let again = stage.step();
    assert!(again.findings.contains(&Finding::OldPlan), "{again:?}");
    assert_eq!(stage.ledger.open().count(), 2);
}

#[test]
fn an_unknown_outcome_is_asked_after_and_the_same_token_is_repeated() {
    let mut stage = Stage::new();
    stage.want(1);
    let _ = stage.step();
    stage.plan = None;
    let machine = stage.only();
    stage.pass(Duration::from_secs(31));
    assert_eq!(stage.step().commands, [Command::Resolve { machine }]);
    // Too early to say.
    stage.resolved(machine, None);
    assert_eq!(stage.step().commands, [Command::Resolve { machine }]);
    stage.pass(MIN);
    stage.resolved(machine, None);
    assert_eq!(stage.step().commands, [Command::Launch { machine }]);
    // It is there after all, by the listing.
    stage.pass(MIN);
    stage.list(1, Some(machine), MachineState::Running);
    let _ = stage.step();
    assert_eq!(stage.state(machine), StateKind::Launched);
}

#[test]
fn what_is_not_found_after_the_grace_has_failed() {
    let mut stage = Stage::new();
    stage.want(1);
    let _ = stage.step();
    stage.plan = None;
    let machine = stage.only();
    for _ in 0..12 {
        stage.pass(MIN);
        stage.resolved(machine, None);
        let _ = stage.step();
    }
    let State::Failed { class, .. } = &stage.ledger.entries[&machine].state else { panic!() };
    assert_eq!(*class, Failure::NeverSeen);
    // Three calls at most, and no look from before the last of them ended it.
    assert!(stage.commands.iter().filter(|c| matches!(c, Command::Launch { .. })).count() <= 3);
}

#[test]
fn a_refusal_of_a_repeated_call_says_nothing_of_the_first() {
    let mut stage = Stage::new();
    stage.want(1);
    let _ = stage.step();
    stage.plan = None;
    let machine = stage.only();
    stage.pass(MIN * 2);
    stage.resolved(machine, None);
    assert_eq!(stage.step().commands, [Command::Launch { machine }]);
    let (class, why) = (Failure::Capacity, "none left".to_owned());
    stage.outcomes.push(Outcome::Refused { machine, class, why });
    let _ = stage.step();
    assert_eq!(
        stage.state(machine),
        StateKind::Requested,
        "the first may stand in a process that is paused"
    );
    stage.found(machine, 7);
    let _ = stage.step();
    assert_eq!(stage.state(machine), StateKind::Launched);
}

#[test]
fn a_refusal_is_told_to_the_planner() {
    let mut stage = Stage::new();
    stage.want(1);
    let _ = stage.step();
    stage.plan = None;
    let (machine, why) = (stage.only(), "none left".to_owned());
    stage.outcomes.push(Outcome::Refused { machine, class: Failure::Capacity, why });
    let _ = stage.step();
    assert_eq!(stage.state(machine), StateKind::Failed);
    let market = stage.ledger.account.markets.values().next().unwrap().values().next().unwrap();
    assert_eq!((market.launched, market.refused), (0, 1));
}

#[test]
fn caps_are_kept_by_the_ledger_not_by_the_plan() {
    let mut stage = Stage::new();
    stage.policy.budget = Budget { max_instances: 3, ..Budget::default() };
    stage.want(10);
    let done = stage.step();
    assert_eq!(stage.ledger.open().count(), 3);
    let cap = Cap::Instances(3);
    assert!(done.findings.contains(&Finding::Capped { cap, wanted: 10, allowed: 3 }));
    // An orphan takes up a place as well.
    let mut stage = Stage::new();
    stage.policy.budget = Budget { max_instances: 3, ..Budget::default() };
    stage.list(9, None, MachineState::Running);
    stage.want(10);
    let _ = stage.step();
    assert_eq!(stage.ledger.open().count(), 2);
}

#[test]
fn a_pool_keeps_its_bound_and_money_its_own() {
    let mut stage = Stage::new();
    stage.want(100);
    let _ = stage.step();
    assert_eq!(stage.ledger.open().count(), 20, "the pool's bound");
    let mut stage = Stage::new();
    let dollar = Money::from_micros(1_000_000);
    stage.policy.budget = Budget { per_hour: dollar.times(4), ..Budget::default() };
    stage.want(10);
    let _ = stage.step();
    assert_eq!(stage.ledger.open().count(), 4);
}

#[test]
fn launches_in_ten_minutes_are_bounded_however_they_end() {
    let mut stage = Stage::new();
    stage.policy.budget = Budget { max_launches: 4, ..Budget::default() };
    for _ in 0..5 {
        stage.want(2);
        let _ = stage.step();
        for machine in stage.machines() {
            let (class, why) = (Failure::Capacity, "none left".to_owned());
            stage.outcomes.push(Outcome::Refused { machine, class, why });
        }
        stage.pass(MIN);
    }
    assert_eq!(stage.ledger.entries.len(), 4);
    stage.pass(MIN * 10);
    stage.want(2);
    let _ = stage.step();
    assert_eq!(stage.ledger.entries.len(), 6);
}

#[test]
fn nobody_is_ended_for_silence_while_the_coordinator_has_just_started() {
    let mut stage = Stage::new();
    let _ = stage.launched(3);
    stage.pass(MIN * 16);
    stage.complete_since = stage.now;
    assert!(stage.step().commands.is_empty());
    stage.workers = Some(Reading::Unknown { why: "away".into() });
    stage.pass(MIN * 2);
    let done = stage.step();
    assert!(done.commands.is_empty());
    assert_eq!(done.findings, [Finding::WorkersUnknown { why: "away".into() }]);
}

#[test]
fn a_drain_ends_when_the_worker_is_empty_and_never_before_its_deadline_when_it_is_busy() {
    let mut stage = Stage::new();
    let machine = stage.ready(1, 3)[0];
    stage.drain(machine, MIN * 20);
    let done = stage.step();
    assert!(matches!(done.commands[..], [Command::Drain { .. }]), "{done:?}");
    stage.plan = None;
    stage.worker(machine, Presence::Draining, 3);
    for _ in 0..19 {
        stage.pass(MIN);
        stage.hear();
        let done = stage.step();
        assert!(done.commands.is_empty(), "{done:?}");
    }
    stage.worker(machine, Presence::Draining, 0);
    let done = stage.step();
    assert!(matches!(done.commands[..], [Command::Terminate { .. }]), "{done:?}");

    let mut stage = Stage::new();
    let machine = stage.ready(1, 3)[0];
    stage.drain(machine, MIN * 20);
    let _ = stage.step();
    stage.pass(MIN * 21);
    stage.worker(machine, Presence::Draining, 3);
    let _ = stage.step();
    let State::Terminating { why, .. } = &stage.ledger.entries[&machine].state else { panic!() };
    assert!(matches!(why, Leave::Overdue { .. }));
}

#[test]
fn a_worker_that_runs_jobs_by_now_is_drained_whatever_the_plan_says() {
    let mut stage = Stage::new();
    let machine = stage.ready(1, 2)[0];
    stage.terminate(machine);
    let done = stage.step();
    assert_eq!(done.findings, [Finding::BusyDrained { machine, running: 2 }]);
    assert_eq!(stage.state(machine), StateKind::Draining);
}

#[test]
fn what_ends_is_asked_again_until_the_provider_says_so() {
    let mut stage = Stage::new();
    let machine = stage.ready(1, 0)[0];
    stage.terminate(machine);
    let _ = stage.step();
    stage.plan = None;
    stage.worker(machine, Presence::Draining, 0);
    for _ in 0..3 {
        let done = stage.step();
        assert!(matches!(done.commands[..], [Command::Terminate { .. }]), "{done:?}");
        stage.pass(MIN);
        stage.hear();
    }
    stage.relist(machine, MachineState::ShuttingDown);
    assert!(stage.step().commands.is_empty());
    stage.pass(MIN * 16);
    let done = stage.step();
    assert!(done.findings.iter().any(|finding| matches!(finding, Finding::Stuck { .. })));
    assert_eq!(stage.ledger.open().count(), 1, "it costs until it is gone");
    stage.relist(machine, MachineState::Ended(EndedBy::Request));
    let _ = stage.step();
    let State::Gone { why, .. } = &stage.ledger.entries[&machine].state else { panic!() };
    assert!(matches!(why, Ending::Terminated(Leave::Planned { .. })));
}

#[test]
fn a_machine_that_is_not_listed_yet_is_neither_lost_nor_launched_again() {
    let mut stage = Stage::new();
    let machine = stage.launched(1)[0];
    stage.machines.clear();
    for _ in 0..4 {
        stage.pass(MIN);
        assert!(stage.step().commands.is_empty());
        assert_eq!(stage.state(machine), StateKind::Launched);
    }
    // Gone for good, and nobody on it.
    for _ in 0..8 {
        stage.pass(MIN);
        let _ = stage.step();
    }
    assert_eq!(stage.state(machine), StateKind::Gone);
}

#[test]
fn a_machine_whose_worker_is_heard_is_there_whatever_the_listing_says() {
    let mut stage = Stage::new();
    let machine = stage.ready(1, 1)[0];
    stage.machines.clear();
    for _ in 0..30 {
        stage.pass(MIN);
        stage.hear();
        let _ = stage.step();
    }
    assert_eq!(stage.state(machine), StateKind::Ready);
}

#[test]
fn a_listing_that_lacks_most_machines_is_not_believed() {
    let mut stage = Stage::new();
    let _ = stage.launched(8);
    stage.machines.truncate(1);
    stage.pass(MIN * 6);
    let done = stage.step();
    let region = "r".to_owned();
    let distrusted = Finding::ListingDistrusted { region, missing: 7, expected: 8 };
    assert!(done.findings.contains(&distrusted), "{done:?}");
    stage.pass(MIN * 6);
    let _ = stage.step();
    assert_eq!(stage.ledger.open().count(), 8);
}

#[test]
fn an_orphan_is_adopted_after_two_listings_and_never_on_a_stale_ledger() {
    let mut stage = Stage::new();
    stage.list(9, None, MachineState::Running);
    let first = stage.step();
    assert!(first.commands.is_empty() && first.writes.entries.is_empty());
    stage.read_age = MIN * 2;
    stage.pass(MIN * 3);
    let refused = stage.step();
    assert_eq!(refused.findings, [Finding::LedgerStale { age: MIN * 2 }]);
    assert!(refused.writes.is_empty());
    stage.read_age = Duration::ZERO;
    let done = stage.step();
    assert!(matches!(done.findings[..], [Finding::Adopted { .. }]), "{done:?}");
    assert!(done.commands.is_empty());
    let machine = stage.only();
    assert_eq!(stage.ledger.entries[&machine].state.instance(), Some(&instance(9)));
    assert!(stage.ledger.account.orphans.is_empty());
}

#[test]
fn a_machine_whose_entry_ended_long_ago_is_taken_in_under_an_id_of_its_own() {
    let mut stage = Stage::new();
    // The entry is still stored, and no longer read: a second one of its id could not be written.
    let forgotten = MachineId::from_bytes([7; 16]);
    stage.list(9, Some(forgotten), MachineState::Running);
    let _ = stage.step();
    stage.pass(MIN * 3);
    let _ = stage.step();
    let adopted = stage.only();
    assert_ne!(adopted, forgotten);
    assert_eq!(stage.ledger.entries[&adopted].state.instance(), Some(&instance(9)));
}

#[test]
fn an_empty_ledger_does_not_end_the_fleet() {
    let mut stage = Stage::new();
    stage.rules.orphans = Orphans::End;
    for number in 0..40 {
        stage.list(number, None, MachineState::Running);
    }
    let _ = stage.step();
    stage.pass(MIN * 3);
    let done = stage.step();
    assert_eq!(stage.ledger.open().count(), 40, "all are accounted for");
    assert_eq!(stage.in_state(StateKind::Terminating).len(), 3, "the guard lets few end");
    let held = |f: &Finding| matches!(f, Finding::MassTermination { allowed: 3, .. });
    assert!(done.findings.iter().any(held), "{done:?}");
}

#[test]
fn a_second_machine_of_one_token_is_taken_in_under_an_id_of_its_own() {
    let mut stage = Stage::new();
    let machine = stage.launched(1)[0];
    stage.list(77, Some(machine), MachineState::Running);
    let _ = stage.step();
    stage.pass(MIN * 3);
    let _ = stage.step();
    assert_eq!(stage.ledger.open().count(), 2);
}

#[test]
fn frozen_nothing_is_launched_drained_or_ended_but_all_is_written_down() {
    let mut stage = Stage::new();
    let ready = stage.ready(2, 0);
    stage.drain(ready[0], MIN);
    let _ = stage.step();
    stage.mode = Mode::Freeze;
    stage.want(3);
    stage.pass(MIN * 5);
    let done = stage.step();
    assert!(done.commands.is_empty(), "{done:?}");
    let held = Finding::Switched { mode: Mode::Freeze, launches: 3, removals: 0 };
    assert!(done.findings.contains(&held), "{done:?}");
    stage.relist(ready[1], MachineState::Ended(EndedBy::Interruption));
    let _ = stage.step();
    assert_eq!(stage.state(ready[1]), StateKind::Gone);
}

#[test]
fn draining_the_fleet_ends_boots_and_lets_workers_finish() {
    let mut stage = Stage::new();
    let busy = stage.ready(1, 4)[0];
    let boots = stage.launched(1)[0];
    stage.mode = Mode::Drain;
    stage.want(3);
    let _ = stage.step();
    assert_eq!(stage.state(busy), StateKind::Draining);
    assert_eq!(stage.state(boots), StateKind::Terminating);
    assert_eq!(stage.ledger.entries.len(), 2);
}

#[test]
fn panic_ends_everything_without_a_guard() {
    let mut stage = Stage::new();
    let _ = stage.ready(12, 4);
    stage.want(1);
    let _ = stage.step();
    let asked = stage.in_state(StateKind::Requested)[0];
    stage.list(99, None, MachineState::Running);
    stage.mode = Mode::Panic;
    let done = stage.step();
    let ends = done.commands.iter().filter(|c| matches!(c, Command::Terminate { .. })).count();
    assert_eq!(ends, 13, "workers and orphan alike: {done:?}");
    // What was asked for ends as soon as it is seen.
    stage.found(asked, 60);
    let _ = stage.step();
    assert_eq!(stage.state(asked), StateKind::Terminating);
}

#[test]
fn what_the_provider_takes_back_is_told_from_what_breaks() {
    let mut stage = Stage::new();
    let machines = stage.ready(2, 1);
    stage.notice(machines[0], Notice::Interruption { lost_at: stage.now.after(MIN * 2) });
    let _ = stage.step();
    for machine in &machines {
        stage.relist(*machine, MachineState::Ended(EndedBy::Request));
    }
    let _ = stage.step();
    let ending = |machine: MachineId| {
        let found = &stage.ledger.entries[&machine].state;
        let State::Gone { why, .. } = found else { panic!("{found:?}") };
        why.clone()
    };
    assert_eq!(ending(machines[0]), Ending::Interrupted);
    assert_eq!(ending(machines[1]), Ending::Elsewhere);
}
