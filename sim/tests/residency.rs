//! The rule of residency against plain LRU, as text that a change has to be seen in.

use std::time::Duration;

use stoker_core::residency;
use stoker_sim::residency::{Comparison, Load, Outcome, Policy, Setup, run};

fn half_an_hour(work: f64) -> Setup {
    Setup::fifty(work, Duration::from_mins(30), 7)
}

#[test]
fn fifty_models_on_a_device_for_a_dozen() {
    let rows = [0.05, 0.2].map(|work| Comparison::run(half_an_hour(work)).rows());
    insta::assert_snapshot!("fifty", Comparison::head() + &rows.concat());
}

#[test]
fn the_rule_loses_less_time_to_loads_than_lru_and_keeps_more_promises() {
    for seed in 1..4 {
        let comparison = Comparison::run(Setup { seed, ..half_an_hour(0.1) });
        for lru in &comparison.outcomes[..2] {
            let rule = &comparison.outcomes[2];
            assert!(rule.loading < lru.loading, "{}", comparison.rows());
            let p99 = |outcome: &Outcome| outcome.wait_of(Duration::from_secs(10));
            assert!(p99(rule) < p99(lru), "{}", comparison.rows());
            assert!(rule.attainment() >= lru.attainment(), "{}", comparison.rows());
        }
    }
}

#[test]
fn with_memory_for_all_every_model_is_loaded_once() {
    let setup = Setup { budget_bytes: 50 * 600_000_000, ..half_an_hour(0.2) };
    for outcome in Comparison::run(setup).outcomes {
        assert!(outcome.loads <= 50 && outcome.attainment() > 0.99, "{} loads", outcome.loads);
    }
}

#[test]
fn every_job_is_done_but_those_of_models_that_never_fit() {
    let setup = Setup { budget_bytes: 500_000_000, ..half_an_hour(0.05) };
    let load = Load::draw(&setup);
    let rule = Policy::Rule(residency::Policy::default());
    let outcomes = [Policy::Lru, Policy::LruHereFirst, rule]
        .map(|policy| run(&load, setup.budget_bytes, policy));
    let [lru, here_first, rule] = outcomes;
    assert_eq!((lru.computing, here_first.computing), (rule.computing, rule.computing));
    assert!(rule.wait(0.5).is_some() && rule.wait(1.0).is_none());
}
