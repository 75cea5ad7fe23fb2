//! What may be spent, and what becomes of machines when it is.

use crate::fleet::caps::Cap;
use crate::fleet::check::Budget;
use crate::fleet::execute::Finding;
use crate::fleet::ledger::{Presence, StateKind};
use crate::fleet::spec::AtLimit;
use crate::money::Money;

use super::MIN;
use super::stage::Stage;

#[test]
fn a_budget_that_is_kept_hard_drains_the_fleet_in_time() {
    let mut stage = Stage::new();
    let dollar = Money::from_micros(1_000_000);
    let at_limit = AtLimit::Drain;
    stage.policy.budget = Budget { per_day: dollar.times(20), at_limit, ..Budget::default() };
    let machines = stage.ready(4, 1);
    // 107 minutes to midnight, and then four dollars an hour: two are left after four and a half hours.
    for _ in 0..(107 + 4 * 60 + 20) {
        stage.pass(MIN);
        stage.hear();
        let _ = stage.step();
    }
    assert_eq!(stage.state(machines[0]), StateKind::Ready);
    for _ in 0..30 {
        stage.pass(MIN);
        stage.hear();
        let _ = stage.step();
    }
    assert!(machines.iter().all(|machine| stage.state(*machine) != StateKind::Ready));
    assert!(stage.ledger.account.spend.day_spent < dollar.times(20));
}

#[test]
fn what_is_spent_after_midnight_is_of_the_next_day_and_drains_nothing_before() {
    let mut stage = Stage::new();
    let dollar = Money::from_micros(1_000_000);
    let at_limit = AtLimit::Drain;
    // 107 minutes to midnight at four dollars an hour are 7.13 dollars.
    stage.policy.budget = Budget { per_day: dollar.times(8), at_limit, ..Budget::default() };
    let machines = stage.ready(4, 1);
    for _ in 0..(107 + 60) {
        stage.pass(MIN);
        stage.hear();
        let _ = stage.step();
    }
    assert!(machines.iter().all(|machine| stage.state(*machine) == StateKind::Ready));
}

#[test]
fn a_budget_that_is_kept_hard_ends_busy_machines_at_their_deadline_however_many_they_are() {
    let mut stage = Stage::new();
    let dollar = Money::from_micros(1_000_000);
    let at_limit = AtLimit::Drain;
    stage.policy.budget = Budget { per_day: dollar.times(100), at_limit, ..Budget::default() };
    let machines = stage.ready(20, 1);
    // 107 minutes to midnight; of the day's hundred dollars ten are left after four and a half hours.
    for _ in 0..(107 + 4 * 60 + 29) {
        stage.pass(MIN);
        stage.hear();
        let _ = stage.step();
    }
    assert_eq!(stage.in_state(StateKind::Ready).len(), 20);
    for _ in 0..17 {
        stage.pass(MIN);
        for machine in &machines {
            stage.worker(*machine, Presence::Draining, 1);
        }
        let _ = stage.step();
    }
    assert_eq!(stage.in_state(StateKind::Terminating).len(), 20, "no guard holds them");
    assert!(stage.ledger.account.spend.day_spent < dollar.times(100));
}

#[test]
fn a_budget_that_stops_launches_lets_what_runs_go_on() {
    let mut stage = Stage::new();
    let dollar = Money::from_micros(1_000_000);
    stage.policy.budget = Budget { per_day: dollar.times(20), ..Budget::default() };
    let machines = stage.ready(4, 1);
    for _ in 0..(107 + 6 * 60) {
        stage.pass(MIN);
        stage.hear();
        let _ = stage.step();
    }
    assert!(stage.ledger.account.spend.day_spent > dollar.times(20));
    assert!(machines.iter().all(|machine| stage.state(*machine) == StateKind::Ready));
    stage.want(1);
    let done = stage.step();
    let cap = Cap::PerDay(dollar.times(20));
    assert!(done.findings.contains(&Finding::Capped { cap, wanted: 1, allowed: 0 }), "{done:?}");
}

#[test]
fn a_spot_machine_is_charged_for_at_what_it_costs_by_now() {
    let mut stage = Stage::new();
    let dollar = Money::from_micros(1_000_000);
    stage.ready(1, 1);
    let hour = |stage: &mut Stage, price: Money| {
        stage.reprice(price);
        let before = stage.ledger.account.spend.month_spent;
        for _ in 0..10 {
            stage.pass(MIN * 6);
            stage.hear();
            let _ = stage.step();
        }
        let micros = stage.ledger.account.spend.month_spent.micros() - before.micros();
        // A step over midnight is charged for in two parts.
        (micros + 500) / 1_000
    };
    let cost = [dollar, dollar.times(3), Money::from_micros(400_000)].map(|p| hour(&mut stage, p));
    assert_eq!(cost, [1_000, 3_000, 1_000], "and never at less than at its launch");
    // A dearer fleet takes up more of what an hour may cost.
    stage.reprice(dollar.times(3));
    stage.policy.budget = Budget { per_hour: dollar.times(5), ..Budget::default() };
    stage.want(1);
    let done = stage.step();
    let cap = Cap::PerHour(dollar.times(5));
    assert!(done.findings.contains(&Finding::Capped { cap, wanted: 1, allowed: 0 }), "{done:?}");
}
