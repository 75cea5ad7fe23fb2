//! Much work at once, in a pool without a bound: what is wanted follows from the work.

use super::*;

/// From a launch to a ready worker.
const BOOT: Duration = Duration::from_mins(3);

/// Jobs that come at once to a pool that has so many workers.
#[derive(Debug, Clone, Copy)]
struct Burst {
    /// Seconds.
    max_wait: u64,
    service: Duration,
    jobs: u32,
    workers: u32,
}

/// A queue in which so many jobs of this length have come and gone.
fn told(waiting: Vec<Waiting>, (arrived, done): (u32, u32), service: Duration) -> Queue {
    let seconds = service.as_secs_f64();
    Queue {
        started: u64::from(done),
        finished: u64::from(done),
        service_seconds: f64::from(done) * seconds,
        service_squares: f64::from(done) * seconds * seconds,
        ..queue("standard", waiting, u64::from(arrived))
    }
}

/// A machine at a time: it boots, and then runs so many jobs.
fn live(machine: &mut Instance, now: Timestamp, running: u32) {
    machine.seen_at = now;
    let ready_at = machine.launched_at.after(BOOT);
    if ready_at <= now {
        let idle_since = (running == 0).then_some(now);
        machine.state = InstanceState::Ready { ready_at, running, idle_since };
    }
}

fn wanted(planned: &Planned) -> u32 {
    match &planned.report.pools[&pool_name()] {
        PoolReport::Planned(findings) => findings.wanted,
        PoolReport::Held(hold) => panic!("{hold}"),
    }
}

impl Burst {
    fn policy(&self) -> Policy {
        let mut policy = policy();
        policy.budget = Budget::default();
        let pool = policy.pools.get_mut(&pool_name()).unwrap();
        (pool.scaling.min, pool.scaling.max) = (self.workers, u32::MAX);
        let standard = pool.classes.get_mut(&ClassName::new("standard").unwrap()).unwrap();
        standard.max_wait = Duration::from_secs(self.max_wait);
        policy
    }

    /// Lives through it second by second while nothing can be launched, after half an hour with twenty jobs at each look, and
    /// returns the most that is wanted.
    fn most_wanted(&self) -> u32 {
        let (policy, mut memory, looks) = (self.policy(), Memory::default(), 120);
        let old = |number| Instance {
            launched_at: at(-4000),
            ..instance(number, CapacityType::Spot, InstanceState::Booting)
        };
        let mut machines: Vec<Instance> = (0..self.workers).map(old).collect();
        for look in 0..looks {
            let now = at(i64::from(look) * 15 - 1800);
            for machine in &mut machines {
                live(machine, now, 0);
            }
            let queue = told(vec![], (20 * look, 20 * look), self.service);
            let seen = snapshot(now, vec![queue], machines.clone());
            memory = plan(&policy, &seen, memory, now).memory;
        }
        let (mut spent, mut most) = (Duration::ZERO, 0);
        for second in 0..300 {
            let now = at(second);
            let done = spent.as_millis() / self.service.as_millis();
            let left = self.jobs.saturating_sub(u32::try_from(done).unwrap());
            for machine in &mut machines {
                live(machine, now, u32::from(left > 0));
            }
            spent += Duration::from_secs(1) * self.workers;
            let age = Duration::from_secs(second.unsigned_abs());
            let waiting = vec![Waiting { age, jobs: u64::from(left) }];
            let arrived = 20 * (looks - 1) + self.jobs;
            let queue = told(waiting, (arrived, arrived - left), self.service);
            let seen = snapshot(now, vec![queue], machines.clone());
            let planned = plan(&policy, &seen, memory, now);
            most = most.max(wanted(&planned));
            memory = planned.memory;
        }
        most
    }
}

#[test]
fn a_burst_of_short_jobs_does_not_want_the_more_the_nearer_its_end_is() {
    let service = Duration::from_millis(50);
    let burst = Burst { max_wait: 420, service, jobs: 40_000, workers: 5 };
    let most = burst.most_wanted();
    // 2000 s of work, which 12 workers do within a boot, and what the forecast makes of so many jobs at once. A second before the last
    // moment, hundreds would be needed for what is left.
    assert!((10..100).contains(&most), "{most}");
}

#[test]
fn jobs_of_a_class_that_the_fleet_file_names_no_more_are_as_patient_as_any() {
    let mut policy = policy();
    policy.budget = Budget::default();
    policy.pools.get_mut(&pool_name()).unwrap().scaling.max = u32::MAX;
    // A job is taken to run for 5 s until that is known.
    let jobs = vec![Waiting { age: Duration::from_secs(30), jobs: 100_000 }];
    let seen = snapshot(at(0), vec![queue("removed", jobs, 100_000)], vec![]);
    let wanted_of = |policy: &Policy| wanted(&plan(policy, &seen, Memory::default(), at(0)));
    let most = wanted_of(&policy);
    assert!(most >= 1 && f64::from(most) <= 500_000.0 / 14_400.0, "{most}");
    // Where no class may wait for long, as one that could.
    let bulk = ClassName::new("bulk").unwrap();
    policy.pools.get_mut(&pool_name()).unwrap().classes.remove(&bulk);
    let most = wanted_of(&policy);
    assert!(most >= 1 && f64::from(most) <= 500_000.0 / 900.0, "{most}");
}
