//! A new image or worker version: machines of the old one are replaced within the budget.

use super::*;

/// Looks from a launch to a ready worker: three minutes.
const BOOT: i64 = 12;

/// What became of a pool of four busy workers that run an old version.
#[derive(Debug)]
struct Rolled {
    machines: Vec<Instance>,
    /// Most machines that were there at a time, and those of the old version at the end of each look.
    most: usize,
    old: Vec<usize>,
    /// All that were ever there.
    made: u32,
    notes: Vec<String>,
}

/// Lives through 200 looks, in which a worker takes `drain` of them to finish.
fn roll(disruption: Disruption, drain: i64) -> Rolled {
    let mut policy = policy();
    let pool = policy.pools.get_mut(&pool_name()).unwrap();
    (pool.scaling.min, pool.scaling.disruption) = (4, disruption);
    let old =
        |number| Instance { outdated: true, ..instance(number, CapacityType::Spot, ready(1)) };
    let mut machines: Vec<(i64, Instance)> = (1..=4).map(|number| (0, old(number))).collect();
    let (mut memory, mut most, mut made) = (Memory::default(), 0, 4);
    let (mut old, mut notes) = (Vec::new(), Vec::new());
    for look in 0..200 {
        let now = at(look * 15);
        machines.retain(|(begun, machine)| {
            look - *begun < drain || !matches!(machine.state, InstanceState::Draining { .. })
        });
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
        most = most.max(seen.len());
        let busy = Queue { running: 4, ..queue("standard", vec![], 4) };
        let planned = plan(&policy, &snapshot(now, vec![busy], seen), memory, now);
        memory = planned.memory;
        if let PoolReport::Planned(findings) = &planned.report.pools[&pool_name()] {
            notes.extend(findings.notes.iter().map(ToString::to_string));
        }
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
                    let leaving = machines.iter_mut().find(|(_, one)| one.name == *instance);
                    let (begun, machine) = leaving.unwrap();
                    *begun = look;
                    machine.state = InstanceState::Draining { running: 1, since: now };
                }
                Step::Terminate { .. } => panic!("all are busy: {step:?}"),
            }
        }
        old.push(machines.iter().filter(|(_, machine)| machine.outdated).count());
    }
    let machines = machines.into_iter().map(|(_, machine)| machine).collect();
    Rolled { machines, most, old, made, notes }
}

fn budget(at_a_time: AtATime, window: Option<&str>) -> Disruption {
    let reasons = [DisruptionReason::Outdated].into();
    let window = window.map(|window| window.parse().unwrap());
    let budget = DisruptionBudget { reasons, at_a_time, window, days: Day::ALL.into() };
    Disruption { budgets: vec![budget] }
}

#[test]
fn machines_that_drifted_are_replaced_a_half_at_a_time_and_none_is_missed() {
    let rolled = roll(Disruption::default(), 1);
    assert!(rolled.most <= 6, "no more than half of them is replaced at a time: {rolled:?}");
    assert_eq!((rolled.machines.len(), rolled.made), (4, 8), "{rolled:?}");
    assert!(rolled.machines.iter().all(|machine| !machine.outdated), "{rolled:?}");
}

#[test]
fn a_budget_says_how_many_are_replaced_at_a_time_and_counts_what_drains() {
    let one = roll(budget(AtATime::Count(1), None), 20);
    assert_eq!((one.most, one.made, one.old.last()), (5, 8, Some(&0)), "{one:?}");
    let said = "3 machines are not taken out yet (outdated): the disruption budget is 1 at a time \
                for outdated";
    assert!(one.notes.iter().any(|note| note == said), "{:?}", one.notes);
    let half = roll(budget(AtATime::Percent(50), None), 20);
    assert!(half.most == 6 && half.old.last() == Some(&0), "{half:?}");
    let all = roll(budget(AtATime::Percent(100), None), 1);
    assert_eq!((all.most, all.made, all.old.last()), (8, 8, Some(&0)), "{all:?}");
}

#[test]
fn a_budget_of_none_leaves_all_alone_while_it_holds() {
    let none = roll(budget(AtATime::Count(0), None), 1);
    assert_eq!((none.most, none.made, none.old.last()), (4, 4, Some(&4)), "{none:?}");
    // It is 22:13 at first.
    let until_then = roll(budget(AtATime::Percent(0), Some("20:00-22:30")), 1);
    let begun = until_then.old.iter().position(|old| *old < 4);
    assert!(begun.is_some_and(|look| look * 15 >= 17 * 60), "{until_then:?}");
    assert_eq!(until_then.old.last(), Some(&0), "{until_then:?}");
}

/// A pool with these budgets for what is superfluous, which has been silent for an hour.
fn surplus(reason: DisruptionReason, at_a_time: AtATime, jobs: u32) -> (usize, Vec<String>) {
    let mut policy = policy();
    let pool = policy.pools.get_mut(&pool_name()).unwrap();
    let mut disruption = budget(at_a_time, None);
    disruption.budgets[0].reasons = [reason].into();
    (pool.scaling.min, pool.scaling.disruption) = (2, disruption);
    let (mut memory, mut notes, mut gone) = (Memory::default(), Vec::new(), Vec::new());
    for look in 0..240 {
        let now = at(look * 15);
        let mut workers: Vec<Instance> =
            (1..=6).map(|number| instance(number, CapacityType::Spot, ready(jobs))).collect();
        workers.retain(|worker| !gone.contains(&worker.name.to_string()));
        for worker in &mut workers {
            worker.seen_at = now;
        }
        let seen = snapshot(now, vec![queue("standard", vec![], 0)], workers);
        let planned = plan(&policy, &seen, memory, now);
        gone.extend(removed(&planned.plan));
        memory = planned.memory;
        if let PoolReport::Planned(findings) = &planned.report.pools[&pool_name()] {
            notes.extend(findings.notes.iter().map(ToString::to_string));
        }
    }
    (gone.len(), notes)
}

#[test]
fn what_is_superfluous_stays_only_where_a_budget_names_it() {
    use DisruptionReason::{Cheaper, Empty, Spare};
    let none = AtATime::Count(0);
    let (gone, notes) = surplus(Empty, none, 0);
    assert_eq!(gone, 0, "{notes:?}");
    let said = "4 machines are not taken out yet (empty): the disruption budget is 0 at a time \
                for empty";
    assert!(notes.iter().any(|note| note == said), "{notes:?}");
    assert_eq!(surplus(Cheaper, none, 0).0, 4);
    assert_eq!(surplus(Empty, AtATime::Count(1), 0).0, 4, "one at each look");
    let (gone, notes) = surplus(Spare, none, 1);
    assert_eq!(gone, 0, "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("(spare)")), "{notes:?}");
    assert_eq!(surplus(Empty, none, 1).0, 4);
}

fn any_budget() -> impl Strategy<Value = DisruptionBudget> {
    let reasons = proptest::sample::subsequence(DisruptionReason::ALL.to_vec(), 1..=6);
    let at_a_time =
        prop_oneof![(0..4_u32).prop_map(AtATime::Count), (0..=100_u8).prop_map(AtATime::Percent)];
    (reasons, at_a_time).prop_map(|(reasons, at_a_time)| DisruptionBudget {
        reasons: reasons.into_iter().collect(),
        at_a_time,
        window: None,
        days: Day::ALL.into(),
    })
}

/// What a budget could be about; `None` for what is lost anyway.
fn kind(reason: &RemoveReason) -> Option<DisruptionReason> {
    DisruptionReason::ALL.into_iter().find(|kind| kind.name() == reason.kind())
}

proptest! {
    #[test]
    fn no_plan_takes_out_more_than_a_budget_allows(
        seen in any_snapshot(),
        budgets in proptest::collection::vec(any_budget(), 0..4),
    ) {
        let mut policy = policy();
        let pool = policy.pools.get_mut(&pool_name()).unwrap();
        pool.scaling.disruption = Disruption { budgets };
        let budgets = &policy.pools[&pool_name()].scaling.disruption.budgets;
        let Reading::Known { value: instances, .. } = &seen.pools[&pool_name()].instances else {
            return Ok(());
        };
        let planned = plan(&policy, &seen, Memory::default(), at(0));
        for budget in budgets {
            let out = planned.plan.steps.iter().filter(|step| match step {
                Step::Drain { reason, .. } | Step::Terminate { reason, .. } => {
                    kind(reason).is_some_and(|kind| budget.reasons.contains(&kind))
                }
                Step::Launch { .. } => false,
            });
            let out = out.count();
            let most = match budget.at_a_time {
                AtATime::Count(count) => usize::try_from(count).unwrap(),
                AtATime::Percent(percent) => (instances.len() * usize::from(percent)).div_ceil(100),
            };
            prop_assert!(out <= most, "{out} > {most} of {budget}: {:?}", planned.plan);
        }
    }
}
