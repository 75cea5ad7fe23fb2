//! Launches that fail for a reason that they have in common.

use std::time::Duration;

use crate::fleet::execute::{Command, Finding, Outcome};
use crate::fleet::ledger::{Failure, StateKind};
use crate::fleet::snapshot::Market;
use crate::ids::{MachineId, OfferingName};

use super::MIN;
use super::stage::{Stage, offering, pool};

/// All that was asked for is refused.
fn refuse(stage: &mut Stage, class: Failure) -> usize {
    let asked = stage.in_state(StateKind::Requested);
    for machine in &asked {
        let why = "it is out".to_owned();
        stage.outcomes.push(Outcome::Refused { machine: *machine, class, why });
    }
    asked.len()
}

fn market_of(stage: &Stage, name: &OfferingName) -> Market {
    let markets = stage.ledger.account.markets.get(&pool());
    markets.and_then(|markets| markets.get(name)).copied().unwrap_or_default()
}

#[test]
fn an_outage_is_met_with_few_launches_and_its_end_with_all() {
    for class in [Failure::Throttled, Failure::Transient, Failure::Auth, Failure::NeverSeen] {
        let mut stage = Stage::new();
        let mut calls = 0;
        for _ in 0..(20 * 4) {
            stage.want(20);
            let _ = stage.step();
            calls += refuse(&mut stage, class);
            stage.pass(Duration::from_secs(15));
        }
        assert!((21..=30).contains(&calls), "{calls} launches in twenty minutes of {class:?}");
        let told = market_of(&stage, &offering());
        assert!(told.refused + told.held_back > 20, "the planner hears of it: {told:?}");
        // Then one goes well.
        stage.pass(MIN * 6);
        stage.want(20);
        let _ = stage.step();
        let trial: Vec<MachineId> = stage.in_state(StateKind::Requested);
        assert_eq!(trial.len(), 1, "{class:?}");
        stage.found(trial[0], 1);
        stage.want(19);
        let _ = stage.step();
        assert_eq!(stage.in_state(StateKind::Requested).len(), 19);
        assert!(stage.ledger.account.pauses.is_empty());
    }
}

#[test]
fn what_was_granted_before_a_pause_is_called_off() {
    let mut stage = Stage::new();
    stage.rules.calls_per_step = 2;
    stage.want(6);
    let done = stage.step();
    assert_eq!(done.commands.len(), 2);
    refuse(&mut stage, Failure::Transient);
    stage.plan = None;
    let done = stage.step();
    assert!(!done.commands.iter().any(|c| matches!(c, Command::Launch { .. })), "{done:?}");
    assert_eq!(stage.ledger.open().count(), 0);
}

#[test]
fn an_offering_that_makes_no_sense_to_the_provider_holds_up_no_other() {
    let mut stage = Stage::new();
    let other = OfferingName::new("g6.a.spot").unwrap();
    stage.offer(&other);
    stage.want(1);
    let _ = stage.step();
    refuse(&mut stage, Failure::Invalid);
    stage.want(1);
    let done = stage.step();
    let held =
        |f: &Finding| matches!(f, Finding::Paused { what, .. } if what == "default/g5.a.spot");
    assert!(done.findings.iter().any(held), "{done:?}");
    let told = market_of(&stage, &offering());
    assert_eq!((told.refused, told.held_back), (1, 1), "once by the provider, once by us");
    stage.want_of(&other, 3);
    let _ = stage.step();
    assert_eq!(stage.in_state(StateKind::Requested).len(), 3);
}

#[test]
fn an_offering_of_a_template_that_does_not_boot_is_told_to_the_planner() {
    let mut stage = Stage::new();
    let _ = stage.launched(3);
    stage.pass(MIN * 16);
    let _ = stage.step();
    let before = market_of(&stage, &offering());
    stage.want(5);
    let _ = stage.step();
    let after = market_of(&stage, &offering());
    assert_eq!((after.refused, after.held_back), (before.refused, before.held_back + 1));
}

#[test]
fn launches_of_one_wave_that_need_mending_are_one_failure() {
    let mut stage = Stage::new();
    stage.want(10);
    let _ = stage.step();
    for machine in stage.machines() {
        let (class, why) = (Failure::Auth, "expired".to_owned());
        stage.outcomes.push(Outcome::Refused { machine, class, why });
    }
    let _ = stage.step();
    let pause = stage.ledger.account.pauses["r"];
    assert_eq!((pause.failures, pause.until), (1, stage.now.after(MIN)));
}
