//! Totals that jump by what cannot have happened: they are said to be left out, and leave nothing behind.

use super::*;

/// A quarter of an hour of looks, of which one finds totals that jumped.
const LOOKS: u32 = 60;

/// What the totals jump by at a look, and never give back.
#[derive(Debug, Clone, Copy, Default)]
struct Jump {
    look: u32,
    arrived: u64,
    finished: u64,
    seconds: f64,
    squares: f64,
}

/// A report of the jump itself, and the numbers at the end.
fn lived(policy: &Policy, jump: Jump) -> (Vec<Note>, Findings, u32) {
    let mut memory = Memory::default();
    let (mut notes, mut last, mut most) = (Vec::new(), None, 0);
    for look in 0..LOOKS {
        let jobs = u64::from(look) * 2;
        let mut standard = queue("standard", vec![], jobs);
        (standard.started, standard.finished) = (jobs, jobs);
        standard.service_seconds = 5.0 * f64::from(look * 2);
        standard.service_squares = 50.0 * f64::from(look * 2);
        if look >= jump.look {
            standard.arrived = standard.arrived.saturating_add(jump.arrived);
            standard.started = standard.started.saturating_add(jump.arrived);
            standard.finished = standard.finished.saturating_add(jump.finished);
            standard.service_seconds += jump.seconds;
            standard.service_squares += jump.squares;
        }
        let now = at(i64::from(look) * 15);
        let worker = Instance { seen_at: now, ..instance(1, CapacityType::Spot, ready(1)) };
        let planned = plan(policy, &snapshot(now, vec![standard], vec![worker]), memory, now);
        memory = planned.memory;
        most = most.max(launches(&planned.plan).values().sum());
        let PoolReport::Planned(findings) = &planned.report.pools[&pool_name()] else {
            panic!("{:?}", planned.report)
        };
        if look == jump.look {
            notes.clone_from(&findings.notes);
        }
        last = Some(findings.as_ref().clone());
    }
    (notes, last.unwrap(), most)
}

fn numbers(findings: &Findings) -> [f64; 5] {
    let Findings { load, deviation, margin, late_share, service, .. } = findings;
    [*load, *deviation, *margin, *late_share, service.as_secs_f64()]
}

#[test]
fn a_billion_jobs_in_a_moment_and_endless_run_times_are_left_out_and_leave_nothing_behind() {
    let usual = lived(&policy(), Jump { look: LOOKS, ..Jump::default() });
    let far = Jump { look: 30, ..Jump::default() };
    for jump in [
        Jump { arrived: 1_000_000_000, ..far },
        Jump { finished: 1, seconds: 1e300, squares: f64::MAX, ..far },
        Jump { finished: 1_000_000_000, seconds: 1e9, squares: 1e9, ..far },
        Jump { seconds: 1e12, ..far },
    ] {
        let (notes, findings, most) = lived(&policy(), jump);
        let said = |note: &Note| matches!(note, Note::ManyJobs { .. } | Note::LongRuns { .. });
        assert!(notes.iter().any(said), "{jump:?}: {notes:?}");
        assert_eq!(most, usual.2, "{jump:?}: more was launched than without");
        for (with, without) in numbers(&findings).iter().zip(numbers(&usual.1)) {
            assert!((with - without).abs() <= 0.05 * without.abs(), "{jump:?}: {with} {without}");
        }
    }
}

#[test]
fn a_worker_that_says_it_has_work_for_ages_is_named_and_its_work_is_estimated() {
    let look = |remaining: Option<Duration>| {
        let worker = Instance { remaining, ..instance(1, CapacityType::Spot, ready(1)) };
        let seen = snapshot(at(0), vec![queue("standard", vec![], 0)], vec![worker]);
        let planned = plan(&policy(), &seen, Memory::default(), at(0));
        let PoolReport::Planned(findings) = &planned.report.pools[&pool_name()] else {
            panic!("{:?}", planned.report)
        };
        (planned.plan.steps.clone(), findings.notes.clone())
    };
    let usual = look(None);
    assert_eq!(look(Some(Duration::from_hours(24))), usual);
    for seconds in [1_000_000_000, u64::MAX] {
        let told = Duration::from_secs(seconds);
        let (steps, mut notes) = look(Some(told));
        let place = notes.iter().position(|note| matches!(note, Note::EndlessWork { .. }));
        let said = notes.remove(place.expect("it is said"));
        let instance = InstanceName::new("i-1").unwrap();
        assert_eq!(said, Note::EndlessWork { instance, told });
        assert!(said.to_string().starts_with("i-1 cannot need "), "{said}");
        assert_eq!((steps, notes), usual);
    }
}

proptest! {
    #[test]
    fn whatever_totals_jump_by_the_numbers_stay_finite_and_launches_within_their_bounds(
        look in 0..LOOKS,
        (arrived, finished) in (any::<u64>(), any::<u64>()),
        (seconds, squares) in (0.0..f64::MAX, 0.0..f64::MAX),
        scale in 0..60_i32,
    ) {
        let small = |of: u64| of >> scale;
        let small_sum = |of: f64| of / 10_f64.powi(scale * 5);
        let (arrived, finished) = (small(arrived), small(finished));
        prop_assume!(arrived < u64::MAX - 1000);
        let (seconds, squares) = (small_sum(seconds), small_sum(squares));
        let jump = Jump { look, arrived, finished, seconds, squares };
        let (_, _, most) = lived(&policy(), jump);
        prop_assert!(most <= 8, "launches above the budget: {most}");
        let mut free = policy();
        free.budget = Budget::default();
        free.pools.get_mut(&pool_name()).unwrap().scaling.max = u32::MAX;
        // A jump that can have been is believed, and its like is expected: how many are wanted then is not bounded by it.
        let (_, findings, _) = lived(&free, jump);
        prop_assert!(numbers(&findings).iter().all(|x| x.is_finite()), "{findings:?}");
        prop_assert!(findings.prediction.kept.is_finite(), "{findings:?}");
    }

    #[test]
    fn whatever_waits_no_more_are_wanted_than_have_work_for_a_boot(
        max_wait in 1..900_u64,
        lots in proptest::collection::vec((any::<bool>(), 0..1_000_000_u64, 0..1_000_000_u32), 0..9),
    ) {
        let mut policy = policy();
        policy.budget = Budget::default();
        let pool = policy.pools.get_mut(&pool_name()).unwrap();
        pool.scaling.max = u32::MAX;
        let standard = pool.classes.get_mut(&ClassName::new("standard").unwrap()).unwrap();
        standard.max_wait = Duration::from_secs(max_wait);
        let (mut queues, mut work) = (Vec::new(), 0.0);
        for (known, age, jobs) in lots {
            let lot = Waiting { age: Duration::from_millis(age), jobs: jobs.into() };
            queues.push(queue(if known { "standard" } else { "removed" }, vec![lot], 0));
            // A job is taken to run for 5 s until that is known.
            work += 5.0 * f64::from(jobs);
        }
        let planned = plan(&policy, &snapshot(at(0), queues, vec![]), Memory::default(), at(0));
        let PoolReport::Planned(findings) = &planned.report.pools[&pool_name()] else {
            return Err(TestCaseError::fail(format!("{:?}", planned.report)));
        };
        let least = f64::from(u32::try_from(max_wait.min(180)).unwrap());
        prop_assert!(f64::from(findings.wanted) <= 2.0 + work / least, "{findings:?}");
    }
}
