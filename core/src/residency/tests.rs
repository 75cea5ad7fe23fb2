mod world;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use world::{Arrival, Kind, World};

const POLICY: Policy = Policy { pays: 8, pays_urgent: 2, margin: Duration::from_secs(1) };
const NOW: i64 = 1_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(seconds * 1_000)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn device(budget_bytes: u64) -> Device {
    Device { budget_bytes, last_load: None }
}

/// Needs 10 bytes and a load of 2 s.
fn absent(id: u32) -> Model<u32> {
    let demand = Demand::default();
    Model { id, need_bytes: 10, load: seconds(2), place: Place::Absent, demand, barred_until: None }
}

/// So many jobs of 100 ms, of which the first has to start in `slack` seconds.
fn waited_for(model: Model<u32>, jobs: u32, slack: i64) -> Model<u32> {
    let work = Duration::from_millis(100) * jobs;
    let start_by = Some(at(NOW + slack));
    Model { demand: Demand { jobs: jobs.into(), work, start_by, every: None }, ..model }
}

/// Here for `since` seconds, and needed `needed` seconds ago.
fn here(id: u32, since: i64, needed: Option<i64>) -> Model<u32> {
    let needed_at = needed.map(|ago| at(NOW - ago));
    let stay = Stay { since: at(NOW - since), needed_at, activity: Activity::Idle };
    Model { place: Place::Resident(stay), ..absent(id) }
}

fn busy(model: Model<u32>) -> Model<u32> {
    match model.place {
        Place::Resident(stay) => {
            let place = Place::Resident(Stay { activity: Activity::Busy, ..stay });
            Model { place, ..model }
        }
        Place::Absent | Place::Loading | Place::Leaving => model,
    }
}

fn ask(budget: u64, models: &[Model<u32>]) -> Decision<u32> {
    decide(&POLICY, &device(budget), models, at(NOW))
}

fn loads(model: u32, leave: &[u32], reason: Reason) -> Action<u32> {
    Action::Load { model, leave: leave.to_vec(), reason }
}

#[test]
fn what_is_waited_for_is_loaded_at_once_where_there_is_room() {
    let models = [busy(here(1, 1, Some(0))), waited_for(absent(2), 1, 1_000)];
    assert_eq!(ask(20, &models).action, loads(2, &[], Reason::Room));
}

#[test]
fn of_two_that_wait_the_one_with_less_slack_is_first() {
    let models = [waited_for(absent(1), 1, 60), waited_for(absent(2), 1, 50)];
    let decision = ask(20, &models);
    assert_eq!(decision.action, loads(2, &[], Reason::Room));
    assert_eq!(decision.waits, [(1, Waits::Switching)]);
}

#[test]
fn while_others_work_one_job_waits_for_the_end_of_its_slack() {
    let models = [
        waited_for(busy(here(1, 100, Some(0))), 1, 900),
        here(2, 100, Some(50)),
        waited_for(absent(3), 1, 60),
    ];
    let decision = ask(20, &models);
    assert_eq!(decision.action, Action::Stay);
    let until = at(NOW + 60 - 2 - 1);
    assert_eq!(decision.waits, [(3, Waits::Slack { until })]);
    assert_eq!(decision.look_at, Some(until));
    let then = decide(&POLICY, &device(20), &models, until);
    assert_eq!(then.action, loads(3, &[2], Reason::Slack));
}

#[test]
fn a_backlog_that_is_worth_the_loads_does_not_wait_for_its_slack() {
    let with = |jobs| {
        [busy(here(1, 100, Some(0))), here(2, 100, Some(50)), waited_for(absent(3), jobs, 600)]
    };
    // Two loads of 2 s, eight times.
    assert_eq!(ask(20, &with(319)).action, Action::Stay);
    assert_eq!(ask(20, &with(320)).action, loads(3, &[2], Reason::Backlog));
}

#[test]
fn an_idle_device_switches_for_one_job() {
    let models = [here(1, 100, Some(50)), waited_for(absent(2), 1, 600)];
    assert_eq!(ask(10, &models).action, loads(2, &[1], Reason::Idle));
    let models = [busy(here(1, 100, Some(50))), waited_for(absent(2), 1, 600)];
    assert_eq!(ask(10, &models).action, Action::Stay);
    let models = [here(1, 3, Some(3)), waited_for(absent(2), 1, 600)];
    assert_eq!(ask(10, &models).look_at, Some(at(NOW + 1)), "its load is not paid for");
}

#[test]
fn the_least_recently_needed_leave_and_what_nobody_needed_leaves_before_them() {
    let waiting = waited_for(absent(9), 1, 0);
    let models = [here(1, 100, Some(40)), here(2, 100, Some(50)), here(3, 1, None), waiting];
    assert_eq!(ask(30, &models).action, loads(9, &[3], Reason::Slack));
    let models = [here(1, 100, Some(40)), here(2, 100, Some(50)), waiting];
    assert_eq!(ask(20, &models).action, loads(9, &[2], Reason::Slack));
}

#[test]
fn what_is_needed_rarely_leaves_though_it_was_needed_last() {
    let waiting = waited_for(absent(9), 1, 0);
    let rare = here(1, 100, Some(5));
    let demand = Demand { every: Some(seconds(60)), ..rare.demand };
    let often = here(2, 100, Some(50));
    let models = [Model { demand, ..rare }, often, waiting];
    assert_eq!(ask(20, &models).action, loads(9, &[1], Reason::Slack));
}

#[test]
fn nobody_leaves_whose_going_changes_nothing() {
    let small = Model { need_bytes: 1, ..here(1, 100, Some(60)) };
    let models = [small, here(2, 100, Some(50)), waited_for(absent(3), 1, 0)];
    assert_eq!(ask(11, &models).action, loads(3, &[2], Reason::Slack));
}

#[test]
fn a_load_is_given_the_time_to_pay() {
    let models = [here(1, 3, Some(1)), waited_for(absent(2), 1, 0)];
    let decision = ask(10, &models);
    let until = at(NOW - 3 + 4);
    assert_eq!((decision.action, decision.look_at), (Action::Stay, Some(until)));
    assert_eq!(decision.waits, [(2, Waits::Pays { until })]);
    let then = decide(&POLICY, &device(10), &models, until);
    assert_eq!(then.action, loads(2, &[1], Reason::Slack));
}

#[test]
fn while_the_device_has_work_one_switch_does_not_follow_the_other() {
    let took = Load { ended_at: at(NOW - 3), took: seconds(2) };
    let device = Device { budget_bytes: 20, last_load: Some(took) };
    let models = [busy(here(1, 100, Some(0))), here(2, 100, Some(50)), waited_for(absent(3), 1, 0)];
    let decision = decide(&POLICY, &device, &models, at(NOW));
    assert_eq!((decision.action, decision.look_at), (Action::Stay, Some(at(NOW + 1))));
    assert_eq!(
        decide(&POLICY, &device, &models, at(NOW + 1)).action,
        loads(3, &[2], Reason::Slack)
    );
}

#[test]
fn work_gives_way_only_to_work_that_has_to_start_earlier() {
    let with = |slack| {
        [waited_for(here(1, 100, Some(0)), 5, slack), waited_for(absent(2), 1, 0), absent(3)]
    };
    assert_eq!(ask(10, &with(1)).action, loads(2, &[1], Reason::Slack));
    let decision = ask(10, &with(0));
    assert_eq!(decision.action, Action::Stay);
    assert_eq!(decision.waits, [(2, Waits::Urgent), (3, Waits::Unneeded)]);
}

#[test]
fn nobody_with_slack_takes_the_turn_of_one_without() {
    let large = Model { need_bytes: 20, ..waited_for(absent(2), 1, 0) };
    let models = [waited_for(here(1, 3, Some(0)), 1, 600), large, waited_for(absent(3), 1, 500)];
    let decision = ask(20, &models);
    assert_eq!(decision.action, Action::Stay, "3 would fit, and 2 would wait longer");
    assert_eq!(decision.waits[1], (3, Waits::Urgent));
}

#[test]
fn spare_memory_is_filled_while_the_device_is_idle() {
    let small = Model { need_bytes: 4, ..absent(2) };
    let tiny = Model { need_bytes: 3, ..absent(3) };
    let idle = here(1, 100, Some(50));
    assert_eq!(ask(15, &[idle, small, tiny]).action, loads(3, &[], Reason::Spare));
    assert_eq!(ask(15, &[busy(idle), small, tiny]).action, Action::Stay);
    let often = Model { demand: Demand { every: Some(seconds(9)), ..small.demand }, ..small };
    assert_eq!(ask(15, &[idle, often, tiny]).action, loads(2, &[], Reason::Spare));
    assert_eq!(ask(12, &[idle, small, tiny]).action, Action::Stay);
    let last_load = Some(Load { ended_at: at(NOW - 7), took: seconds(1) });
    let device = Device { budget_bytes: 15, last_load };
    let at_once = decide(&POLICY, &device, &[idle, small], at(NOW)).action;
    assert_eq!(at_once, Action::Stay, "loads for nobody are a small part of the time");
    let later = decide(&POLICY, &device, &[idle, small], at(NOW + 1)).action;
    assert_eq!(later, loads(2, &[], Reason::Spare));
}

#[test]
fn models_that_need_more_than_was_thought_make_others_leave() {
    let models = [here(1, 1, Some(0)), here(2, 1, Some(5)), here(3, 1, None)];
    assert_eq!(ask(29, &models).action, Action::Shrink { leave: vec![3] });
    assert_eq!(ask(9, &models).action, Action::Shrink { leave: vec![3, 2, 1] });
}

#[test]
fn one_that_is_too_large_or_has_failed_does_not_stand_in_the_way() {
    let large = Model { need_bytes: 21, ..waited_for(absent(1), 1, -5) };
    let until = at(NOW + 7);
    let failed = Model { barred_until: Some(until), ..waited_for(absent(2), 1, -5) };
    let models = [large, failed, waited_for(absent(3), 1, 60)];
    let decision = ask(20, &models);
    assert_eq!(decision.action, loads(3, &[], Reason::Room));
    assert_eq!(decision.waits, [(1, Waits::TooLarge), (2, Waits::Barred { until })]);
    assert_eq!(ask(20, &models[..2]).look_at, Some(until));
}

#[test]
fn there_is_one_step_at_a_time() {
    for place in [Place::Loading, Place::Leaving] {
        let models = [Model { place, ..absent(1) }, waited_for(absent(2), 1, -5)];
        let decision = ask(100, &models);
        assert_eq!((decision.action, decision.look_at), (Action::Stay, None));
        assert_eq!(decision.waits, [(2, Waits::Switching)]);
    }
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![any::<i64>(), -100_i64..100].prop_map(Timestamp::from_unix_millis)
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::MAX),
        Just(Duration::ZERO),
        (0_u64..200).prop_map(Duration::from_millis)
    ]
}

fn any_size() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0_u64..30]
}

fn any_place() -> impl Strategy<Value = Place> {
    let activity = prop_oneof![Just(Activity::Busy), Just(Activity::Idle)];
    let stay = (any_time(), proptest::option::of(any_time()), activity)
        .prop_map(|(since, needed_at, activity)| Stay { since, needed_at, activity });
    prop_oneof![
        6 => Just(Place::Absent),
        6 => stay.prop_map(Place::Resident),
        1 => prop_oneof![Just(Place::Loading), Just(Place::Leaving)],
    ]
}

fn any_models() -> impl Strategy<Value = Vec<Model<u32>>> {
    let start_by = proptest::option::of(any_time());
    let every = proptest::option::of(any_duration());
    let demand = (0_u64..3, any_duration(), start_by, every)
        .prop_map(|(jobs, work, start_by, every)| Demand { jobs, work, start_by, every });
    let barred = proptest::option::weighted(0.1, any_time());
    let one = (any_size(), any_duration(), any_place(), demand, barred);
    vec(one, 0..8).prop_map(|all| {
        let model = |(id, (need_bytes, load, place, demand, barred_until))| Model {
            id,
            need_bytes,
            load,
            place,
            demand,
            barred_until,
        };
        (0..).zip(all).map(model).collect()
    })
}

fn any_device() -> impl Strategy<Value = Device> {
    let load = (any_time(), any_duration()).prop_map(|(ended_at, took)| Load { ended_at, took });
    (any_size(), proptest::option::of(load))
        .prop_map(|(budget_bytes, last_load)| Device { budget_bytes, last_load })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (any::<u32>(), 0_u32..4, any_duration()).prop_map(|(pays, pays_urgent, margin)| Policy {
        pays,
        pays_urgent,
        margin,
    })
}

proptest! {
    /// Whatever the numbers are, a step is one that can be taken, and leaves no more than the budget in use.
    #[test]
    fn every_step_keeps_the_budget(
        policy in any_policy(),
        device in any_device(),
        models in any_models(),
        now in any_time(),
    ) {
        let decision = decide(&policy, &device, &models, now);
        let place = |id: u32| models[usize::try_from(id).unwrap()].place;
        let need = |id: u32| u128::from(models[usize::try_from(id).unwrap()].need_bytes);
        let is_here = |id: u32| matches!(place(id), Place::Resident(_));
        let used = |without: &[u32]| -> u128 {
            let stays = models.iter().map(|model| model.id).filter(|id| is_here(*id));
            stays.filter(|id| !without.contains(id)).map(need).sum()
        };
        let budget = u128::from(device.budget_bytes);
        match &decision.action {
            Action::Stay => {}
            Action::Load { model, leave, reason } => {
                prop_assert_eq!(place(*model), Place::Absent);
                prop_assert!(leave.iter().all(|id| is_here(*id)));
                prop_assert!(used(leave) + need(*model) <= budget);
                prop_assert_eq!(leave.is_empty(), matches!(reason, Reason::Room | Reason::Spare));
            }
            Action::Shrink { leave } => {
                prop_assert!(!leave.is_empty() && leave.iter().all(|id| is_here(*id)));
                prop_assert!(used(&[]) > budget && used(leave) <= budget);
            }
        }
        prop_assert!(decision.look_at.is_none_or(|at| at > now));
        for (id, _) in &decision.waits {
            prop_assert_eq!(place(*id), Place::Absent);
        }
    }

    /// The same values give the same answer, in whatever order they are told.
    #[test]
    fn the_order_of_the_models_does_not_matter(
        device in any_device(),
        models in any_models(),
        now in any_time(),
    ) {
        let mut turned = models.clone();
        turned.reverse();
        let (one, other) =
            (decide(&POLICY, &device, &models, now), decide(&POLICY, &device, &turned, now));
        prop_assert_eq!(one.action, other.action);
        prop_assert_eq!(one.look_at, other.look_at);
    }

    /// In a world that lives by the rule: see [`World`] for what is checked at each of its moments.
    #[test]
    fn a_device_that_follows_the_rule_keeps_its_promises(
        kinds in vec((1_u64..10, 1_u64..30, 1_u64..10), 2..7),
        budget in 10_u64..25,
        arrivals in vec((0_u64..600, 0_usize..7, 0_u64..300), 1..120),
        pays_urgent in 1_u32..4,
    ) {
        let kinds: Vec<Kind> = kinds
            .into_iter()
            .map(|(need_bytes, load, service)| Kind { need_bytes, load, service })
            .collect();
        let count = kinds.len();
        let arrivals: Vec<Arrival> = arrivals
            .into_iter()
            .map(|(at, model, slack)| Arrival { at, model: model % count, slack })
            .collect();
        let policy = Policy { pays_urgent, margin: Duration::ZERO, ..POLICY };
        World::new(policy, budget, kinds).live(arrivals)?;
    }
}
