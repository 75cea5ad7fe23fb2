//! Several classes in a pool: each keeps its own promise, and what is predicted of each comes true.

use stoker_core::fleet::{ClassFindings, PoolReport, Prediction};
use stoker_sim::fleet::job::{Class, Job, Millis, Workload, count, seconds};
use stoker_sim::fleet::planner::Stoker;
use stoker_sim::fleet::policy::{Orders, Policy, View};
use stoker_sim::fleet::score::Outcome;
use stoker_sim::fleet::synthetic;
use stoker_sim::fleet::world::{self, Setup};

const HOUR: Millis = 3_600_000;

/// A boot of three minutes, and these classes: seconds of wait and objective.
fn setup(classes: &[(i64, f64)]) -> Setup {
    let class =
        |(wait, objective): &(i64, f64)| Class { max_wait: wait * 1000, objective: *objective };
    Setup { classes: classes.iter().map(class).collect(), ..Setup::simple(60, 180) }
}

/// The planner, and what it said of the classes at each look.
struct Watched {
    stoker: Stoker,
    said: Vec<(Millis, Vec<ClassFindings>)>,
}

impl Policy for Watched {
    fn name(&self) -> String {
        self.stoker.name()
    }

    fn interval(&self) -> Millis {
        self.stoker.interval()
    }

    fn reacts_to_notices(&self) -> bool {
        self.stoker.reacts_to_notices()
    }

    fn act(&mut self, view: &View<'_>, orders: &mut Orders) {
        self.stoker.act(view, orders);
        for report in self.stoker.report.pools.values() {
            let PoolReport::Planned(findings) = report else { panic!("{report:?}") };
            self.said.push((view.now, findings.classes.clone()));
        }
    }
}

fn watch(setup: &Setup, workload: &Workload) -> (Outcome, Vec<(Millis, Vec<ClassFindings>)>) {
    let mut watched = Watched { stoker: Stoker::new(setup), said: Vec::new() };
    let outcome = world::run(setup, workload, &mut watched);
    (outcome, watched.said)
}

fn run(setup: &Setup, workload: &Workload) -> Outcome {
    world::run(setup, workload, &mut Stoker::new(setup))
}

/// Days with an evening peak, on which every eighth job from nine to twelve o'clock, when the load rises, is of a second class.
fn rare_at_the_rise(days: i64, seed: u64) -> Workload {
    let mut workload = synthetic::daily(days, 0.12, seed);
    let rises = |job: &&mut Job| (9..12).contains(&(job.at / HOUR % 24));
    for job in workload.jobs.iter_mut().filter(rises).skip(7).step_by(8) {
        job.class = 1;
    }
    workload
}

#[test]
fn a_class_with_few_jobs_at_bad_times_keeps_its_own_percentile() {
    let workload = rare_at_the_rise(10, 7);
    let of_class = workload.jobs.iter().filter(|job| job.class == 1).count();
    assert!((0.005..0.02).contains(&(count(of_class) / count(workload.jobs.len()))), "{of_class}");
    let outcome = run(&setup(&[(60, 0.99), (60, 0.99)]), &workload);
    assert!(outcome.by_class.iter().all(|kept| *kept >= 0.99), "{:?}", outcome.by_class);
    let alone = run(&setup(&[(60, 0.99)]), &synthetic::daily(10, 0.12, 7));
    let dearer = outcome.hours() / alone.hours();
    assert!(dearer < 1.25, "{dearer}");
}

#[test]
fn classes_with_different_waits_keep_theirs_and_cost_less_than_if_all_had_the_shortest() {
    let mut workload = synthetic::daily(4, 0.12, 7);
    for job in workload.jobs.iter_mut().skip(9).step_by(10) {
        job.class = 1;
    }
    let both = run(&setup(&[(600, 0.99), (60, 0.99)]), &workload);
    assert!(both.by_class.iter().all(|kept| *kept >= 0.99), "{:?}", both.by_class);
    let strict = run(&setup(&[(60, 0.99), (60, 0.99)]), &workload);
    assert!(both.hours() < 0.95 * strict.hours(), "{} {}", both.hours(), strict.hours());
}

#[test]
fn heaps_of_jobs_are_worked_off_by_the_time_that_is_left_to_them() {
    let calm = synthetic::daily(3, 0.1, 5);
    // A hundred jobs of 20 s at once, every four hours. Each may wait for ten minutes, of which a boot takes three.
    let heap =
        |hour| (0..100).map(move |_| Job { at: hour * HOUR, service: 20_000, class: 0, model: 0 });
    let jobs = calm.jobs.iter().copied().chain((6..72).step_by(4).flat_map(heap)).collect();
    let outcome = run(&setup(&[(600, 0.99)]), &Workload::new("heaps", jobs, calm.end));
    assert!(outcome.attainment >= 0.998, "{}", outcome.attainment);
}

/// Jobs, by how likely it was said to be that they start in time: said, and so it was, of how many.
#[derive(Debug, Default)]
struct Calibration {
    bins: [(f64, f64, f64); 4],
    within_median: f64,
    within_p99: f64,
    jobs: f64,
}

/// Ends of the bins.
const SHARES: [f64; 4] = [0.7, 0.95, 0.99, 1.0];

impl Calibration {
    /// Compares what was said at each look with the jobs that came within the next five minutes.
    fn of(setup: &Setup, workload: &Workload, class: usize) -> Self {
        let (outcome, said) = watch(setup, workload);
        let all = workload.jobs.iter().zip(&outcome.starts).filter(|(job, _)| job.class == class);
        let waits = all.map(|(job, start)| (job.at, start.unwrap_or(workload.end) - job.at));
        let waits: Vec<(Millis, Millis)> = waits.collect();
        let mut calibration = Self::default();
        for (at, classes) in &said {
            let name = format!("c{class}");
            let Some(found) = classes.iter().find(|one| one.class.as_str() == name) else {
                continue;
            };
            let from = waits.partition_point(|(arrived, _)| arrived < at);
            let to =
                waits.partition_point(|(arrived, _)| *arrived < at + setup.boot.mean + 120_000);
            for (_, wait) in &waits[from..to] {
                calibration.count(&found.planned, *wait, setup.classes[class].max_wait);
            }
        }
        calibration
    }

    fn count(&mut self, planned: &Prediction, wait: Millis, max_wait: Millis) {
        let within = |most: f64| f64::from(u8::from(seconds(wait) <= most));
        let bin = SHARES.iter().position(|end| planned.kept <= *end).unwrap_or(SHARES.len() - 1);
        let (said, was, jobs) = &mut self.bins[bin];
        *said += planned.kept;
        *was += within(seconds(max_wait));
        *jobs += 1.0;
        self.jobs += 1.0;
        self.within_median += within(planned.median.as_secs_f64());
        self.within_p99 += within(planned.p99.as_secs_f64());
    }

    /// Says of every bin that has a hundredth of the jobs how far what was said is from what was.
    fn errors(&self) -> Vec<f64> {
        let told = self.bins.iter().filter(|(_, _, jobs)| *jobs >= 0.01 * self.jobs);
        told.map(|(said, was, jobs)| (said - was) / jobs).collect()
    }

    /// The same over all jobs.
    fn error(&self) -> f64 {
        self.bins.iter().map(|(said, was, _)| said - was).sum::<f64>() / self.jobs
    }
}

/// Of jobs that are said to start in time with a probability, the share that does is within 5 points of it, within 1 point over all, and
/// 98 to 100 % wait no longer than 99 % are said to.
fn is_calibrated(calibration: &Calibration) {
    assert!(calibration.error().abs() < 0.01, "{calibration:?}");
    let errors = calibration.errors();
    assert!(errors.iter().all(|error| error.abs() < 0.05), "{errors:?} {calibration:?}");
    let p99 = calibration.within_p99 / calibration.jobs;
    assert!((0.98..1.0).contains(&p99), "{p99}");
    // Half wait no longer than half are said to, and more where that is not at all.
    assert!(calibration.within_median / calibration.jobs > 0.5, "{calibration:?}");
}

#[test]
fn what_is_predicted_on_days_with_an_evening_peak_comes_true() {
    is_calibrated(&Calibration::of(&setup(&[(60, 0.99)]), &synthetic::daily(3, 0.12, 7), 0));
}

#[test]
fn what_is_predicted_of_bursts_that_nobody_foresees_comes_true() {
    is_calibrated(&Calibration::of(&setup(&[(60, 0.99)]), &synthetic::bursts(3, 7), 0));
}

#[test]
fn what_is_predicted_of_a_class_that_goes_first_comes_true() {
    let mut workload = synthetic::daily(2, 0.3, 7);
    for job in workload.jobs.iter_mut().step_by(2) {
        job.class = 1;
    }
    let setup = setup(&[(60, 0.99), (600, 0.99)]);
    let calibration = Calibration::of(&setup, &workload, 0);
    assert!(calibration.error().abs() < 0.01, "{calibration:?}");
    assert!(calibration.within_p99 / calibration.jobs > 0.95, "{calibration:?}");
}
