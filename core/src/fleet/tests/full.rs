//! Pools that are as large as they may be: what has to be replaced goes before its successor comes.

use super::*;

/// From a launch to a ready worker.
const BOOT: Duration = Duration::from_mins(3);

/// What became of a pool of busy workers.
#[derive(Debug)]
struct Lived {
    /// Machines at the end, and how many there have been.
    left: Vec<Instance>,
    made: u32,
    /// The least that worked, and the most that was there.
    least: usize,
    most: usize,
    notes: Vec<String>,
}

/// A pool that has to have as many workers as it may have.
fn full(size: u32) -> Policy {
    let mut policy = policy();
    policy.budget = Budget::default();
    let scaling = &mut policy.pools.get_mut(&pool_name()).unwrap().scaling;
    (scaling.min, scaling.max) = (size, size);
    policy
}

fn outdated(number: u32) -> Instance {
    Instance { outdated: true, ..instance(number, CapacityType::Spot, ready(number)) }
}

/// Lives through 400 looks, in which a worker that drains needs two to finish.
fn live(policy: &Policy, machines: Vec<Instance>) -> Lived {
    let made = u32::try_from(machines.len()).unwrap();
    let mut lived = Lived { left: machines, made, least: usize::MAX, most: 0, notes: vec![] };
    let mut memory = Memory::default();
    for look in 0..400 {
        let now = at(look * 15);
        lived.left.retain(|machine| match machine.state {
            InstanceState::Draining { since, .. } => now.since(since) < Duration::from_secs(30),
            InstanceState::Ready { .. } | InstanceState::Booting => true,
        });
        for machine in &mut lived.left {
            machine.seen_at = now;
            let booted = now.since(machine.launched_at) >= BOOT;
            if machine.state == InstanceState::Booting && booted {
                let (ready_at, running, idle_since) = (now, 1, None);
                machine.state = InstanceState::Ready { ready_at, running, idle_since };
            }
        }
        let seen = lived.left.clone();
        lived.least = lived.least.min(seen.iter().filter(|machine| machine.works()).count());
        lived.most = lived.most.max(seen.len());
        let busy = Queue { running: 4, ..queue("standard", vec![], 4) };
        let planned = plan(policy, &snapshot(now, vec![busy], seen), memory, now);
        memory = planned.memory;
        if let PoolReport::Planned(findings) = &planned.report.pools[&pool_name()] {
            lived.notes.extend(findings.notes.iter().map(ToString::to_string));
        }
        for step in &planned.plan.steps {
            match step {
                Step::Launch { offering, count, .. } => {
                    for _ in 0..*count {
                        lived.made += 1;
                        let (offering, launched_at) = (offering.clone(), now);
                        let new = instance(lived.made, CapacityType::Spot, InstanceState::Booting);
                        lived.left.push(Instance { offering, launched_at, ..new });
                    }
                }
                Step::Drain { instance, .. } => {
                    let found = lived.left.iter_mut().find(|machine| machine.name == *instance);
                    found.unwrap().state = InstanceState::Draining { running: 1, since: now };
                }
                Step::Terminate { .. } => panic!("all are busy: {step:?}"),
            }
        }
    }
    lived
}

fn told(lived: &Lived, text: &str) -> bool {
    lived.notes.iter().any(|note| note.contains(text))
}

#[test]
fn in_a_full_pool_all_that_drifted_are_replaced_one_after_the_other() {
    let lived = live(&full(4), (1..=4).map(outdated).collect());
    assert_eq!((lived.left.len(), lived.made), (4, 8), "{lived:?}");
    assert!(lived.left.iter().all(|machine| !machine.outdated), "{lived:?}");
    assert_eq!((lived.least, lived.most), (3, 4), "one less at a time: {lived:?}");
    let said = "i-2 is marked, and the pool has no room for its successor, so that one after \
                the other goes before its own comes: its configuration is not the present one";
    assert!(told(&lived, said), "{:?}", lived.notes);
    assert!(!told(&lived, "waits for its successor"), "{:?}", lived.notes);
    assert!(told(&lived, "2 launches are wanted, the pool has room for 0"), "{:?}", lived.notes);
    // So it is with the only one, and with what is too old.
    let alone = live(&full(1), vec![outdated(1)]);
    assert_eq!((alone.left.len(), alone.made, alone.least), (1, 2, 0), "{alone:?}");
    let mut policy = full(4);
    let scaling = &mut policy.pools.get_mut(&pool_name()).unwrap().scaling;
    scaling.expire_after = Some(Duration::from_hours(2));
    let old = |number| Instance {
        launched_at: at(-7000),
        ..instance(number, CapacityType::Spot, ready(1))
    };
    let expired = live(&policy, (1..=4).map(old).collect());
    assert_eq!((expired.left.len(), expired.made, expired.least), (4, 8, 3), "{expired:?}");
}

#[test]
fn in_a_full_pool_what_has_the_least_to_finish_goes_first_and_nothing_while_another_moves() {
    let first = |machines: Vec<Instance>| {
        let busy = queue("standard", vec![], 4);
        let seen = snapshot(at(0), vec![busy], machines);
        removed(&plan(&full(3), &seen, Memory::default(), at(0)).plan)
    };
    let all = || vec![outdated(3), outdated(1), outdated(2)];
    assert_eq!(first(all()), ["i-1"]);
    // Jobs are not all alike: what a worker says itself counts.
    let told = |number: u32, seconds| Instance {
        remaining: Some(Duration::from_secs(seconds)),
        ..outdated(number)
    };
    assert_eq!(first(vec![told(3, 20), told(1, 900), told(2, 60)]), ["i-3"]);
    let other = |state| {
        let mut machines = all();
        machines[0] = Instance { launched_at: at(-20), ..instance(9, CapacityType::Spot, state) };
        machines
    };
    assert!(first(other(InstanceState::Booting)).is_empty());
    let (running, since) = (1, at(-20));
    assert!(first(other(InstanceState::Draining { running, since })).is_empty());
    let mut taken_back = all();
    taken_back[0].notice = Some(Notice::Interruption { lost_at: at(90) });
    assert_eq!(first(taken_back), ["i-3"], "the provider's, and no other");
}

#[test]
fn in_a_full_pool_nothing_goes_for_which_no_successor_could_be_launched() {
    let mut policy = full(4);
    policy.budget.max_launches = 0;
    let lived = live(&policy, (1..=4).map(outdated).collect());
    assert_eq!((lived.made, lived.least), (4, 4), "{lived:?}");
    // The fleet's budget has room for the successor once the old one has gone.
    let mut policy = full(4);
    policy.budget.max_instances = 4;
    let lived = live(&policy, (1..=4).map(outdated).collect());
    assert_eq!((lived.made, lived.least), (8, 3), "{lived:?}");
}

#[test]
fn in_a_full_pool_what_would_only_be_cheaper_waits_for_room() {
    let dear = |number| instance(number, CapacityType::OnDemand, ready(1));
    let lived = live(&full(4), (1..=4).map(dear).collect());
    assert_eq!((lived.made, lived.least), (4, 4), "{lived:?}");
    let said = "i-1 is marked and waits until the pool has room for its successor: a cheaper one can be had";
    assert!(told(&lived, said), "{:?}", lived.notes);
    // With room for one more, one after the other is replaced and none is missed.
    let mut policy = full(4);
    policy.pools.get_mut(&pool_name()).unwrap().scaling.max = 5;
    let lived = live(&policy, (1..=4).map(dear).collect());
    assert_eq!((lived.made, lived.least, lived.most), (8, 4, 5), "{lived:?}");
}
