//! Small machines or large ones: what the planner buys where both are offered.

use stoker_sim::fleet::job::{Class, HOUR_MS, Job, Millis, Workload};
use stoker_sim::fleet::market::Offering;
use stoker_sim::fleet::planner::Stoker;
use stoker_sim::fleet::score::Outcome;
use stoker_sim::fleet::service::Batch;
use stoker_sim::fleet::world::{self, Setup};

fn offering(name: &str, price: f64, speed: f64, batch: u32) -> Offering {
    let batch = Batch { size: batch, growth: 0.0 };
    Offering { name: name.to_owned(), speed, batch, ..Offering::on_demand(price) }
}

fn run(offerings: &[Offering], max_wait: Millis, jobs: &[Job], end: Millis) -> Outcome {
    let mut setup = Setup::simple(60, 180);
    setup.classes = vec![Class { max_wait, objective: 0.99 }];
    setup.offerings = offerings.to_vec();
    let workload = Workload::new("sizes", jobs.to_vec(), end);
    world::run(&setup, &workload, &mut Stoker::new(&setup))
}

/// A job of 6 s every `6 / load` seconds.
fn load(load: f64, from: Millis, to: Millis) -> impl Iterator<Item = Job> {
    let gap = stoker_sim::fleet::job::millis(6.0 / load);
    (0..(to - from) / gap).map(move |n| Job {
        at: from + n * gap,
        service: 6_000,
        class: 0,
        model: 0,
    })
}

/// With both sizes, and with each of them alone.
fn compare(
    offerings: &[Offering; 2],
    max_wait: Millis,
    jobs: &[Job],
    end: Millis,
) -> (Outcome, [Outcome; 2]) {
    let alone = [0, 1].map(|at| run(&offerings[at..=at], max_wait, jobs, end));
    (run(offerings, max_wait, jobs, end), alone)
}

fn told(both: &Outcome, alone: &[Outcome; 2]) -> String {
    let said = |one: &Outcome| {
        let (cost, launches) = (one.usage.cost, one.usage.launches);
        format!("{:.2} % for {cost:.2}, {launches} launches", 100.0 * one.attainment)
    };
    let [small, large] = alone;
    format!(
        "{} ({:.2?} hours); alone {} and {}",
        said(both),
        both.usage.hours,
        said(small),
        said(large)
    )
}

#[test]
fn a_bulk_backlog_is_worked_off_for_what_the_best_size_alone_would_cost() {
    let offerings = [offering("small", 1.0, 1.0, 1), offering("xlarge", 3.0, 2.0, 4)];
    // All at once, and in steps that are small enough to be met one by one.
    for gap in [0, 250, 1000, 2000] {
        let jobs: Vec<Job> =
            (0..8000).map(|n| Job { at: n * gap, service: 10_000, class: 0, model: 0 }).collect();
        let (both, alone) = compare(&offerings, 4 * HOUR_MS, &jobs, 8000 * gap + 6 * HOUR_MS);
        let best = alone[0].usage.cost.min(alone[1].usage.cost);
        let told = format!("every {gap} ms: {}", told(&both, &alone));
        assert!(both.usage.cost <= 1.1 * best, "{told}");
        assert!(both.attainment >= 1.0, "{told}");
        assert!(both.usage.launches <= 6, "{told}");
    }
}

#[test]
fn jobs_that_may_wait_and_trickle_in_share_machines_instead_of_keeping_one() {
    let offerings = [offering("small", 1.0, 1.0, 1), offering("xlarge", 3.0, 2.0, 4)];
    // Of a quarter of the large machine's throughput, of a sixteenth, and of next to nothing.
    for (gap, most) in [(5_000, 1.25), (20_000, 1.4), (600_000, 7.0)] {
        let number = 24 * HOUR_MS / gap;
        let jobs: Vec<Job> =
            (0..number).map(|n| Job { at: n * gap, service: 10_000, class: 0, model: 0 }).collect();
        let (both, alone) = compare(&offerings, 4 * HOUR_MS, &jobs, 30 * HOUR_MS);
        let told = format!("every {gap} ms: {}", told(&both, &alone));
        // In full batches, without boots.
        let hours = f64::from(u32::try_from(number).unwrap()) * 10.0 / 8.0 / 3600.0;
        assert!(both.usage.cost <= most * 3.0 * hours, "{hours:.2} hours: {told}");
        assert!(both.attainment >= 1.0, "{told}");
        assert!(both.usage.launches <= 40, "{told}");
    }
}

#[test]
fn a_load_that_grows_by_small_steps_moves_to_the_size_that_is_cheapest_for_all_of_it() {
    let offerings = [offering("small", 1.0, 1.0, 1), offering("large", 3.0, 4.0, 1)];
    let third = HOUR_MS / 3;
    let steps = (0..12_u32).flat_map(|step| {
        let from = Millis::from(step) * third;
        load(0.5 * f64::from(step + 1), from, from + third)
    });
    let jobs: Vec<Job> = steps.chain(load(6.0, 12 * third, 24 * HOUR_MS)).collect();
    let (both, alone) = compare(&offerings, 60_000, &jobs, 24 * HOUR_MS);
    let (told, [small, large]) = (told(&both, &alone), &alone);
    assert!(both.usage.cost < 0.9 * small.usage.cost, "{told}");
    assert!(both.usage.cost < 1.05 * large.usage.cost, "{told}");
    assert!(both.attainment >= small.attainment - 0.002, "{told}");
    assert!(both.usage.launches <= small.usage.launches + 10, "{told}");
}

#[test]
fn after_a_busy_time_what_is_left_to_do_is_moved_to_a_small_machine() {
    let offerings = [offering("small", 1.0, 1.0, 1), offering("large", 3.0, 4.0, 1)];
    let jobs: Vec<Job> =
        load(6.0, 0, 2 * HOUR_MS).chain(load(0.3, 2 * HOUR_MS, 24 * HOUR_MS)).collect();
    let (both, alone) = compare(&offerings, 60_000, &jobs, 24 * HOUR_MS);
    let told = told(&both, &alone);
    assert!(both.usage.cost < 1.05 * alone[0].usage.cost, "{told}");
    assert!(both.attainment >= alone[0].attainment - 0.002, "{told}");
}

#[test]
fn a_load_that_comes_and_goes_is_not_chased_from_size_to_size() {
    let offerings = [offering("small", 1.0, 1.0, 1), offering("large", 3.0, 4.0, 1)];
    for minutes in [8, 15, 30, 60] {
        let half = minutes * 60_000;
        let waves = 12 * HOUR_MS / (2 * half);
        let wave = |n: Millis| {
            let from = 2 * n * half;
            load(1.5, from, from + half).chain(load(6.0, from + half, from + 2 * half))
        };
        let jobs: Vec<Job> = (0..waves).flat_map(wave).collect();
        let (both, alone) = compare(&offerings, 60_000, &jobs, 12 * HOUR_MS);
        let told = format!("{minutes} min: {}", told(&both, &alone));
        let best = alone[0].usage.cost.min(alone[1].usage.cost);
        assert!(both.usage.cost < 1.1 * best, "{told}");
        assert!(both.usage.launches <= alone[0].usage.launches * 11 / 10, "{told}");
    }
}
