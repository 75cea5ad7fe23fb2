//! The policies on generated workloads, as text that a change has to be seen in.

use stoker_sim::fleet::baseline::fixed::Static;
use stoker_sim::fleet::job::{Class, Job, Workload};
use stoker_sim::fleet::market::Offering;
use stoker_sim::fleet::planner::Stoker;
use stoker_sim::fleet::suite::Comparison;
use stoker_sim::fleet::synthetic;
use stoker_sim::fleet::world::{self, Setup};

#[test]
fn every_policy_on_days_with_an_evening_peak() {
    let workload = synthetic::daily(3, 0.12, 7);
    let comparison = Comparison::run(&Setup::simple(60, 180), &workload);
    insta::assert_snapshot!("daily", comparison.table(3.0));
}

#[test]
fn every_policy_on_bursts() {
    let workload = synthetic::bursts(3, 7);
    let comparison = Comparison::run(&Setup::simple(60, 180), &workload);
    insta::assert_snapshot!("bursts", comparison.table(3.0));
}

#[test]
fn spot_that_comes_and_goes_costs_less_and_keeps_nearly_as_much() {
    let workload = synthetic::daily(3, 0.12, 7);
    let only = Setup::simple(60, 180);
    let mut mixed = only.clone();
    for (zone, seed) in [("a", 1), ("b", 2), ("c", 3)] {
        let capacity = Some(synthetic::capacity(3, seed));
        mixed.offerings.push(Offering::spot(zone, 0.4, capacity));
    }
    let run = |setup: &Setup| world::run(setup, &workload, &mut Stoker::new(setup));
    let (only, mixed) = (run(&only), run(&mixed));
    assert!(mixed.usage.cost < 0.65 * only.usage.cost, "{} {}", mixed.usage.cost, only.usage.cost);
    assert!(mixed.attainment > only.attainment - 0.01, "{mixed:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let workload = synthetic::bursts(1, 3);
    let mut setup = Setup::simple(60, 180);
    (setup.boot.sigma, setup.boot.failures) = (0.25, 0.1);
    setup.offerings[0].losses_per_hour = 0.2;
    let run = |setup: &Setup| world::run(setup, &workload, &mut Stoker::new(setup));
    assert_eq!(run(&setup), run(&setup));
    assert_ne!(run(&setup).starts, run(&Setup { seed: 2, ..setup.clone() }).starts);
}

#[test]
fn a_class_that_may_wait_does_not_delay_one_that_may_not() {
    let mut workload = synthetic::daily(1, 0.12, 5);
    let night = (0..3000).map(|n| Job { at: n * 1000, service: 10_000, class: 1 });
    let jobs: Vec<Job> = workload.jobs.iter().copied().chain(night).collect();
    workload = Workload::new("two classes", jobs, workload.end);
    let mut setup = Setup::simple(60, 180);
    setup.classes.push(Class { max_wait: 4 * 3_600_000, objective: 0.99 });
    let outcome = world::run(&setup, &workload, &mut Stoker::new(&setup));
    assert!(outcome.attainment > 0.97, "{} {}", outcome.attainment, outcome.hours());
    // 3000 jobs of 10 s are 8.3 hours of work.
    let alone = world::run(&setup, &synthetic::daily(1, 0.12, 5), &mut Stoker::new(&setup)).hours();
    assert!(outcome.hours() < alone + 14.0, "{} {alone}", outcome.hours());
}

#[test]
fn what_a_lost_machine_ran_is_run_again() {
    let jobs = vec![Job { at: 0, service: 600_000, class: 0 }];
    let workload = Workload::new("one", jobs, 3_600_000);
    let mut setup = Setup::simple(60, 60);
    let capacity = stoker_sim::fleet::market::Steps::new(vec![(0, 1), (120_000, 0), (400_000, 1)]);
    setup.offerings[0].capacity = Some(capacity);
    let outcome = world::run(&setup, &workload, &mut Static(1));
    assert_eq!((outcome.usage.cut_short, outcome.usage.rerun), (1, 1), "{outcome:?}");
}
