//! Machines of other sizes: what replaces what, when, and that it comes to an end.

use super::*;
use crate::fleet::capacity::Capacity;

/// From a launch to a ready worker.
const BOOT: Duration = Duration::from_mins(3);
const SMALL: &str = "small.a.on-demand";
const LARGE: &str = "large.a.on-demand";

/// Speed, throughput in batches, dollars.
type Size = (f64, f64, f64);

/// A pool that wants `need` workers all the time, with two sizes.
fn sizes(need: u32, small: Size, large: Size) -> Policy {
    let mut policy = policy();
    policy.budget = Budget::default();
    let scaling = &mut policy.pools.get_mut(&pool_name()).unwrap().scaling;
    let offering = |(name, (speed, bulk_speed, dollars)): (&str, Size)| {
        let offering = Offering {
            instance_type: name.to_owned(),
            zone: "a".to_owned(),
            capacity: CapacityType::OnDemand,
            price: HourlyPrice::new(Money::from_dollars(dollars).unwrap()),
            speed,
            bulk_speed,
        };
        (OfferingName::new(name).unwrap(), offering)
    };
    (scaling.min, scaling.max, scaling.expire_after) = (need, 1000, None);
    scaling.offerings = [(SMALL, small), (LARGE, large)].map(offering).into();
    policy
}

fn machine(number: u32, offering: &str, state: InstanceState) -> Instance {
    let offering = OfferingName::new(offering).unwrap();
    Instance { offering, ..instance(number, CapacityType::OnDemand, state) }
}

/// What happened in a pool whose machines are all busy.
#[derive(Debug, Default)]
struct Story {
    /// Machines by offering at the end.
    left: BTreeMap<String, u32>,
    /// Looks at which machines of another size were launched.
    resized_at: Vec<i64>,
    /// Dollars an hour whenever nothing boots.
    prices: Vec<f64>,
    /// The least speed that was ready.
    least_ready: f64,
    notes: Vec<String>,
}

/// Lives through `looks` looks, with so many jobs that wait at each.
fn live(policy: &Policy, mut machines: Vec<Instance>, waiting_jobs: u64, looks: i64) -> Story {
    let scaling = &policy.pools[&pool_name()].scaling;
    let of = |machine: &Instance| &scaling.offerings[&machine.offering];
    let (mut memory, mut made) = (Memory::default(), 1000);
    let mut story = Story { least_ready: f64::INFINITY, ..Story::default() };
    for look in 0..looks {
        let now = at(look * 15);
        for machine in &mut machines {
            machine.seen_at = now;
            let booted = now.since(machine.launched_at) >= BOOT;
            if machine.state == InstanceState::Booting && booted {
                let (ready_at, running, idle_since) = (now, 1, None);
                machine.state = InstanceState::Ready { ready_at, running, idle_since };
            }
        }
        let busy = Queue { running: 9, ..queue("standard", waiting(waiting_jobs), 9) };
        let planned = plan(policy, &snapshot(now, vec![busy], machines.clone()), memory, now);
        memory = planned.memory;
        if let PoolReport::Planned(findings) = &planned.report.pools[&pool_name()] {
            story.notes.extend(findings.notes.iter().map(ToString::to_string));
        }
        for step in &planned.plan.steps {
            match step {
                Step::Launch { offering, count, reason, .. } => {
                    if matches!(reason, LaunchReason::Resize { .. }) {
                        story.resized_at.push(look);
                    }
                    for _ in 0..*count {
                        made += 1;
                        let new = machine(made, offering.as_str(), InstanceState::Booting);
                        machines.push(Instance { launched_at: now, ..new });
                    }
                }
                Step::Drain { instance, .. } | Step::Terminate { instance, .. } => {
                    machines.retain(|machine| machine.name != *instance);
                }
            }
        }
        if machines.iter().all(|machine| machine.state != InstanceState::Booting) {
            let price = machines.iter().map(|machine| of(machine).price.hour().dollars());
            story.prices.push(price.sum());
        }
        let ready = machines.iter().filter(|m| matches!(m.state, InstanceState::Ready { .. }));
        let ready: f64 = ready.map(|machine| of(machine).speed).sum();
        story.least_ready = story.least_ready.min(ready);
    }
    for machine in &machines {
        *story.left.entry(machine.offering.to_string()).or_default() += 1;
    }
    story
}

fn ready_ones(small: u32, large: u32) -> Vec<Instance> {
    let small_ones = (0..small).map(|n| machine(n, SMALL, ready(1)));
    small_ones.chain((0..large).map(|n| machine(100 + n, LARGE, ready(1)))).collect()
}

const CHEAP: (Size, Size) = ((1.0, 1.0, 1.0), (4.0, 4.0, 3.0));

#[test]
fn a_lasting_need_is_met_with_large_machines_once_that_has_paid_for_the_move() {
    let policy = sizes(8, CHEAP.0, CHEAP.1);
    let story = live(&policy, ready_ones(8, 0), 0, 600);
    assert_eq!(story.left, BTreeMap::from([(LARGE.to_owned(), 2)]), "{story:?}");
    assert!(story.least_ready >= 8.0, "{story:?}");
    // The first four save $1 an hour: a boot of $3 and of $4, and a minute of $4, are 25 minutes of it.
    let first = *story.resized_at.first().unwrap();
    assert!((90..=110).contains(&first), "{story:?}");
    assert_eq!(story.resized_at.len(), 2, "{story:?}");
    let told = |text: &str| story.notes.iter().any(|note| note.contains(text));
    assert!(told("instances of other sizes would cost $1.00 an hour less"), "{:?}", story.notes);
    assert!(told("i-0 is marked and waits for its successor: instances of another size cost less"));
}

#[test]
fn what_is_needed_of_a_large_machine_is_moved_to_a_small_one() {
    let story = live(&sizes(1, CHEAP.0, CHEAP.1), ready_ones(0, 1), 0, 200);
    assert_eq!(story.left, BTreeMap::from([(SMALL.to_owned(), 1)]), "{story:?}");
    assert!(story.least_ready >= 1.0, "{story:?}");
    // While jobs wait, what is ready never gets less.
    let story = live(&sizes(1, CHEAP.0, CHEAP.1), ready_ones(0, 1), 1, 200);
    assert!(story.least_ready >= 4.0 && story.left.contains_key(LARGE), "{story:?}");
}

#[test]
fn a_small_machine_is_not_given_up_for_a_large_one_that_is_not_needed() {
    // Both are idle, and a worker of speed 1 is cheaper on the large one.
    let idle = vec![machine(1, SMALL, ready(0)), machine(2, LARGE, ready(0))];
    let seen = snapshot(at(0), vec![queue("standard", vec![], 0)], idle);
    let planned = plan(&sizes(1, CHEAP.0, CHEAP.1), &seen, Memory::default(), at(0));
    assert_eq!(removed(&planned.plan), ["i-2"]);
    let idle = (0..4).map(|n| machine(n, SMALL, ready(0))).chain([machine(9, LARGE, ready(0))]);
    let seen = snapshot(at(0), vec![queue("standard", vec![], 0)], idle.collect());
    let planned = plan(&sizes(4, CHEAP.0, CHEAP.1), &seen, Memory::default(), at(0));
    assert_eq!(removed(&planned.plan), ["i-0", "i-1", "i-2", "i-3"]);
}

#[test]
fn a_bulk_backlog_that_grows_moves_to_the_machine_on_which_a_job_is_cheapest() {
    let mut policy = sizes(0, (1.0, 1.0, 1.0), (2.0, 8.0, 3.0));
    policy.pools.get_mut(&pool_name()).unwrap().classes.retain(|name, _| name.as_str() == "bulk");
    let looked = |jobs: u64, age: u64, machines: Vec<Instance>| {
        let backlog = vec![Waiting { age: Duration::from_mins(age), jobs }];
        let seen = snapshot(at(0), vec![queue("bulk", backlog, jobs)], machines);
        let planned = plan(&policy, &seen, Memory::default(), at(0));
        (launches(&planned.plan), planned)
    };
    // Of the four hours that a job may wait, less than one is left.
    assert_eq!(looked(1, 200, vec![]).0, BTreeMap::from([(SMALL.to_owned(), 1)]));
    // A job is taken to run for 5 s until that is known, so that there is work for more than half an hour of the large one.
    let (bought, planned) = looked(3600, 0, vec![machine(1, SMALL, ready(1))]);
    assert_eq!(bought, BTreeMap::from([(LARGE.to_owned(), 1)]));
    assert!(removed(&planned.plan).is_empty(), "not before the large one is ready");
    let both = |state| vec![machine(1, SMALL, ready(1)), machine(2, LARGE, state)];
    let look = |state, memory, second| {
        let backlog = vec![Waiting { age: Duration::ZERO, jobs: 3600 }];
        let mut both = both(state);
        for machine in &mut both {
            (machine.seen_at, machine.launched_at) =
                (at(second), at(0).before(Duration::from_mins(5)));
        }
        let seen = snapshot(at(second), vec![queue("bulk", backlog, 3600)], both);
        plan(&policy, &seen, memory, at(second))
    };
    let booting = look(InstanceState::Booting, planned.memory, 15);
    assert!(booting.plan.steps.is_empty(), "{:?}", booting.plan);
    let there = look(ready(1), booting.memory, 30);
    assert_eq!(removed(&there.plan), ["i-1"], "{:?}", there.plan);
}

#[test]
fn a_few_jobs_that_may_wait_are_launched_for_when_their_time_gets_short() {
    let mut policy = sizes(0, (1.0, 1.0, 1.0), (2.0, 8.0, 3.0));
    policy.pools.get_mut(&pool_name()).unwrap().classes.retain(|name, _| name.as_str() == "bulk");
    let look = |age: u64| {
        let backlog = vec![Waiting { age: Duration::from_mins(age), jobs: 9 }];
        let seen = snapshot(at(0), vec![queue("bulk", backlog, 9)], vec![]);
        plan(&policy, &seen, Memory::default(), at(0))
    };
    for age in [0, 60, 170] {
        let planned = look(age);
        assert!(planned.plan.steps.is_empty(), "{age}: {:?}", planned.plan);
        let PoolReport::Planned(findings) = &planned.report.pools[&pool_name()] else {
            panic!("{:?}", planned.report)
        };
        let said = findings.notes.contains(&Note::Patient { seconds: 45.0 });
        assert!(said, "{:?}", findings.notes);
    }
    assert_eq!(launches(&look(180).plan), BTreeMap::from([(SMALL.to_owned(), 1)]));
}

#[test]
fn what_may_wait_is_not_given_the_seconds_of_what_starts_at_once() {
    // Two large machines: one worker's worth of the four is needed at once, so that three quarters are left.
    let policy = sizes(1, (1.0, 1.0, 1.0), (2.0, 8.0, 3.0));
    let launched = |jobs| {
        let backlog = vec![Waiting { age: Duration::ZERO, jobs }];
        let seen = snapshot(at(0), vec![queue("bulk", backlog, jobs)], ready_ones(0, 2));
        launches(&plan(&policy, &seen, Memory::default(), at(0)).plan)
    };
    // 12 workers of speed 1 do 34,000 jobs of 5 s within 4 hours without a boot, and no 35,000.
    assert!(launched(34_000).is_empty(), "{:?}", launched(34_000));
    assert_eq!(launched(35_000), BTreeMap::from([(LARGE.to_owned(), 1)]));
}

/// A memory in which a small machine is marked, whose successors were launched when so much was ready.
fn marked(attained: f64) -> Memory {
    let mut memory = Memory::default();
    let resize = &mut memory.pools.entry(pool_name()).or_default().resize;
    resize.mark(&[machine(1, SMALL, ready(1)).name], Capacity { prompt: 1.0, bulk: attained });
    memory
}

#[test]
fn a_marked_machine_goes_though_jobs_wait_when_others_have_gone_since_it_was_marked() {
    let mut policy = sizes(0, (1.0, 1.0, 1.0), (2.0, 8.0, 3.0));
    policy.pools.get_mut(&pool_name()).unwrap().classes.retain(|name, _| name.as_str() == "bulk");
    let looked = |machines: Vec<Instance>, memory, second| {
        let backlog = vec![Waiting { age: Duration::ZERO, jobs: 1000 }];
        let mut machines = machines;
        for machine in &mut machines {
            machine.seen_at = at(second);
        }
        let seen = snapshot(at(second), vec![queue("bulk", backlog, 1000)], machines);
        plan(&policy, &seen, memory, at(second))
    };
    let (small, large) = (machine(1, SMALL, ready(1)), |state| machine(2, LARGE, state));
    // Of nine times as much only it is left.
    let booting = looked(vec![small.clone(), large(InstanceState::Booting)], marked(9.0), 0);
    assert!(removed(&booting.plan).is_empty(), "{:?}", booting.plan);
    let there = looked(vec![small.clone(), large(ready(1))], booting.memory, 15);
    assert_eq!(removed(&there.plan), ["i-1"], "{:?}", there.plan);
    // They went after its successor had come.
    let mut memory = marked(9.0);
    let gone = (0..80).find(|look| {
        let machines = vec![small.clone(), large(ready(1))];
        let planned = looked(machines, std::mem::take(&mut memory), look * 15);
        memory = planned.memory;
        !removed(&planned.plan).is_empty()
    });
    assert!(gone.is_some_and(|look| (36..60).contains(&look)), "three boots: {gone:?}");
}

#[test]
fn machines_of_an_offering_that_the_fleet_file_names_no_more_miss_no_money() {
    let policy = sizes(6, CHEAP.0, CHEAP.1);
    let unknown = |number| machine(number, "former.a.on-demand", ready(1));
    let (mut memory, mut savings) = (Memory::default(), Vec::new());
    for look in 0..40 {
        let now = at(look * 15);
        // Six of them are replaced, which is half of all; two have to stay for now.
        let mut machines: Vec<Instance> = (0..8).map(unknown).collect();
        machines.extend((20..24).map(|number| machine(number, SMALL, ready(1))));
        for machine in &mut machines {
            machine.seen_at = now;
        }
        let busy = Queue { running: 9, ..queue("standard", vec![], 9) };
        let planned = plan(&policy, &snapshot(now, vec![busy], machines), memory, now);
        memory = planned.memory;
        let PoolReport::Planned(findings) = &planned.report.pools[&pool_name()] else { panic!() };
        for note in &findings.notes {
            if let Note::OtherSizes { saving, .. } = note {
                savings.push(*saving);
            }
        }
        let missed = memory.pools[&pool_name()].resize.missed;
        assert!(missed.abs() < 1e-9, "while others are replaced nothing is missed: {missed}");
    }
    // A large one for the four small ones.
    assert!(!savings.is_empty() && savings.iter().all(|saving| *saving <= 1.0), "{savings:?}");
}

#[test]
fn a_full_pool_says_that_other_sizes_would_be_cheaper() {
    let mut policy = sizes(8, CHEAP.0, CHEAP.1);
    policy.pools.get_mut(&pool_name()).unwrap().scaling.max = 8;
    let story = live(&policy, ready_ones(8, 0), 0, 20);
    assert_eq!(story.left, BTreeMap::from([(SMALL.to_owned(), 8)]), "{story:?}");
    let said = "instances of other sizes would cost $1.00 an hour less, and the pool has no room for \
         them";
    assert!(story.notes.iter().any(|note| note == said), "{:?}", story.notes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn at_a_constant_load_the_price_never_rises_and_replacements_end(
        need in 1..24_u32,
        small in 0..12_u32,
        large in 0..6_u32,
        speed in 2..7_u32,
        cents in 110..700_u32,
    ) {
        let (speed, dollars) = (f64::from(speed), f64::from(cents) / 100.0);
        let policy = sizes(need, (1.0, 1.0, 1.0), (speed, speed, dollars));
        let story = live(&policy, ready_ones(small, large), 0, 1600);
        // Until everything that is missing is there, launches are not replacements.
        let settled = story.prices.iter().skip(40).copied().collect::<Vec<f64>>();
        for pair in settled.windows(2) {
            prop_assert!(pair[1] <= pair[0] + 1e-9, "{:?}", story);
        }
        prop_assert!(story.resized_at.len() <= 30, "{:?}", story);
        let last = story.resized_at.last().copied().unwrap_or(0);
        prop_assert!(last < 1400, "it does not end: {:?}", story);
        let had = f64::from(small) + f64::from(large) * speed;
        prop_assert!(story.least_ready >= f64::from(need).min(had) - 1e-9, "{:?}", story);
        let kinds = [(1.0, 1.0), (speed, dollars)];
        let best = (0..=need).map(|small| {
            let large = ((f64::from(need - small)) / speed).ceil();
            f64::from(small) * kinds[0].1 + large * kinds[1].1
        }).fold(f64::INFINITY, f64::min);
        let end = *settled.last().unwrap();
        prop_assert!(end * 0.8 <= best + 1e-9, "{end} against {best}: {:?}", story);
    }
}
