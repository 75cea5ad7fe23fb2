//! Who goes when there are more workers than are wanted.

use super::*;

/// Idle workers at one price, with these models in memory.
fn idle_with(models: &[&[&str]]) -> Vec<Instance> {
    let one = |(number, models): (u32, &&[&str])| {
        let warm = models.iter().map(|model| ModelName::new(model).unwrap()).collect();
        Instance { warm, ..instance(number, CapacityType::Spot, ready(0)) }
    };
    (0..).zip(models).map(one).collect()
}

#[test]
fn of_idle_workers_the_last_with_a_warm_model_stays() {
    let mut policy = policy();
    policy.pools.get_mut(&pool_name()).unwrap().scaling.min = 2;
    let removed_of = |models: &[&[&str]]| {
        let seen = snapshot(at(0), vec![queue("standard", vec![], 0)], idle_with(models));
        removed(&plan(&policy, &seen, Memory::default(), at(0)).plan)
    };
    assert_eq!(removed_of(&[&["rare"], &["common"], &["common"]]), ["i-1"]);
    assert_eq!(removed_of(&[&["common"], &["rare", "common"], &["common"]]), ["i-0"]);
    // Warmth alone keeps nobody.
    assert_eq!(removed_of(&[&["a"], &["b"], &["c"]]), ["i-0"]);
}

/// Who is drained in twenty minutes in which these are busy, and the load is one that a single worker keeps up with.
fn drained_of(workers: &[Instance]) -> Vec<String> {
    let (policy, mut memory) = (policy(), served(&policy(), 1));
    let mut drained = Vec::new();
    for look in 0..80 {
        let now = at(look * 15);
        let mut workers = workers.to_vec();
        workers.retain(|worker| !drained.contains(&worker.name.to_string()));
        for worker in &mut workers {
            worker.seen_at = now;
        }
        let seen = snapshot(now, vec![queue("standard", vec![], 59)], workers);
        let planned = plan(&policy, &seen, memory, now);
        for step in &planned.plan.steps {
            assert!(matches!(step, Step::Drain { reason: RemoveReason::Spare { .. }, .. }));
        }
        drained.extend(removed(&planned.plan));
        memory = planned.memory;
        assert!(look >= 20 || drained.is_empty(), "not for a moment's surplus");
    }
    drained
}

#[test]
fn a_busy_worker_goes_when_there_have_been_too_many_for_long() {
    let workers = (1..=6).map(|jobs| instance(jobs, CapacityType::Spot, ready(jobs)));
    let drained = drained_of(&workers.collect::<Vec<_>>());
    // One after the other, first the one that has the least to finish.
    assert_eq!(drained[..2], ["i-1", "i-2"], "{drained:?}");
    assert!(drained.len() < 6, "{drained:?}");
}

#[test]
fn of_busy_workers_the_one_with_the_least_work_to_finish_goes_first() {
    let policy = policy();
    let model = |name: &str| ModelName::new(name).unwrap();
    let of = |name: &str, seconds: f64, jobs: u64| Queue {
        model: model(name),
        started: jobs,
        finished: jobs,
        service_seconds: seconds * f64::from(u32::try_from(jobs).unwrap()),
        service_squares: seconds * seconds * f64::from(u32::try_from(jobs).unwrap()),
        ..queue("standard", vec![], jobs)
    };
    let mut memory = Memory::default();
    for look in 0..200 {
        let (now, jobs) = (at(look * 15), u64::try_from(look.min(100)).unwrap());
        let queues = vec![of("short", 1.0, jobs), of("long", 30.0, jobs)];
        // Three short jobs take less than one long one.
        let mut workers: Vec<Instance> = [("long", 1), ("short", 3), ("long", 2), ("long", 3)]
            .iter()
            .zip(1..)
            .map(|((name, jobs), number)| Instance {
                warm: vec![model(name)],
                ..instance(number, CapacityType::Spot, ready(*jobs))
            })
            .collect();
        for worker in &mut workers {
            worker.seen_at = now;
        }
        let planned = plan(&policy, &snapshot(now, queues, workers), memory, now);
        if let Some(first) = removed(&planned.plan).first() {
            assert_eq!(first, "i-2", "at {look}");
            return;
        }
        memory = planned.memory;
    }
    panic!("four are too many for a load that has ended");
}

#[test]
fn of_workers_with_as_many_jobs_the_one_with_the_least_left_of_them_goes_first() {
    // Those that do not tell, or cannot be right, have two jobs of 5 s.
    let told = [Some(300), Some(40), Some(5), None, Some(1_000_000_000), Some(100)];
    let one = |(number, seconds): (u32, Option<u64>)| Instance {
        remaining: seconds.map(Duration::from_secs),
        ..instance(number, CapacityType::Spot, ready(2))
    };
    let drained = drained_of(&(1..).zip(told).map(one).collect::<Vec<_>>());
    assert_eq!(drained[..3], ["i-3", "i-4", "i-5"], "{drained:?}");
}

#[test]
fn long_jobs_that_could_have_waited_are_not_handed_over_as_spare() {
    let mut memory = Memory::default();
    for look in 0..80 {
        let now = at(look * 15);
        let mut workers: Vec<Instance> =
            (1..=5).map(|number| instance(number, CapacityType::Spot, ready(1))).collect();
        for worker in &mut workers {
            worker.seen_at = now;
        }
        let bulk = Queue { running: 5, ..queue("bulk", vec![], 5) };
        let planned = plan(&policy(), &snapshot(now, vec![bulk], workers), memory, now);
        assert!(planned.plan.steps.is_empty(), "{:?}", planned.plan);
        memory = planned.memory;
    }
}
