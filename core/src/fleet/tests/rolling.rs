//! A new image or worker version: machines of the old one are replaced within the budget.

use super::*;

/// Looks from a launch to a ready worker: three minutes.
const BOOT: i64 = 12;

#[test]
fn machines_that_drifted_are_replaced_a_half_at_a_time_and_none_is_missed() {
    let mut policy = policy();
    let pool = policy.pools.get_mut(&pool_name()).unwrap();
    pool.scaling.min = 4;
    let old =
        |number| Instance { outdated: true, ..instance(number, CapacityType::Spot, ready(1)) };
    let mut machines: Vec<(i64, Instance)> = (1..=4).map(|number| (0, old(number))).collect();
    let (mut memory, mut made) = (Memory::default(), 4);
    for look in 0..200 {
        let now = at(look * 15);
        for (begun, machine) in &mut machines {
            machine.seen_at = now;
            if machine.state == InstanceState::Booting && look - *begun >= BOOT {
                let (ready_at, running, idle_since) = (now, 1, None);
                machine.state = InstanceState::Ready { ready_at, running, idle_since };
            }
        }
        let seen: Vec<Instance> = machines.iter().map(|(_, machine)| machine.clone()).collect();
        let works = |machine: &&Instance| matches!(machine.state, InstanceState::Ready { .. });
        assert!(seen.iter().filter(works).count() >= 4, "{seen:?}");
        assert!(seen.len() <= 6, "no more than half of them is replaced at a time: {seen:?}");
        let busy = Queue { running: 4, ..queue("standard", vec![], 4) };
        let planned = plan(&policy, &snapshot(now, vec![busy], seen), memory, now);
        memory = planned.memory;
        for step in &planned.plan.steps {
            match step {
                Step::Launch { offering, count, .. } => {
                    for _ in 0..*count {
                        made += 1;
                        let (offering, launched_at) = (offering.clone(), now);
                        let new = instance(made, CapacityType::Spot, InstanceState::Booting);
                        machines.push((look, Instance { offering, launched_at, ..new }));
                    }
                }
                Step::Drain { instance, reason, .. } => {
                    assert_eq!(*reason, RemoveReason::Outdated);
                    machines.retain(|(_, machine)| machine.name != *instance);
                }
                Step::Terminate { .. } => panic!("all are busy: {step:?}"),
            }
        }
    }
    assert_eq!((machines.len(), made), (4, 8), "{machines:?}");
    assert!(machines.iter().all(|(_, machine)| !machine.outdated), "{machines:?}");
}
