use std::time::Duration;

use proptest::prelude::*;

use crate::fleet::InstanceState;
use crate::fleet::spec::CapacityType;
use crate::ids::{Epoch, InstanceName, MachineId, ModelName, OfferingName, PoolName, WorkerId};
use crate::money::{HourlyPrice, Money};
use crate::time::Timestamp;

use super::*;

const START: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

fn order() -> Order {
    Order {
        pool: PoolName::new("default").unwrap(),
        offering: OfferingName::new("g5.a.spot").unwrap(),
        provider: "memory".into(),
        region: "r".into(),
        zone: "a".into(),
        instance_type: "g5".into(),
        capacity: CapacityType::Spot,
        price: HourlyPrice::new(Money::from_micros(3_600_000)),
        template: "lt-1:4".into(),
        reason: "load".into(),
    }
}

fn intended() -> Entry {
    Entry::intended(MachineId::from_bytes([7; 16]), Epoch::new(1), order(), START)
}

fn of(entry: &Entry) -> BTreeMap<MachineId, Entry> {
    [(entry.id, entry.clone())].into()
}

fn instance(number: u8) -> InstanceName {
    InstanceName::new(&format!("i-{number}")).unwrap()
}

fn any_leave() -> impl Strategy<Value = Leave> {
    prop_oneof![
        Just(Leave::Planned { why: "idle".into() }),
        Just(Leave::Panic),
        Just(Leave::Ordered { by: "ann".into(), why: "odd".into() }),
        Just(Leave::NeverRegistered),
        Just(Leave::Orphan),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Asked),
        (0_u8..2, -5_000_i64..5_000).prop_map(|(number, shift)| Event::Found {
            instance: instance(number),
            launched_at: Timestamp::from_unix_millis(START.as_unix_millis() + shift),
        }),
        Just(Event::Refused { class: Failure::Capacity, why: "none left".into() }),
        Just(Event::CalledOff { why: "frozen".into() }),
        (0_u8..2).prop_map(|n| Event::Registered { worker: WorkerId::from_bytes([n; 16]) }),
        Just(Event::Noticed),
        Just(Event::Listed),
        Just(Event::Missed),
        (0_u64..100, any_leave()).prop_map(|(seconds, why)| Event::Drain {
            deadline: START.after(Duration::from_secs(seconds)),
            why
        }),
        any_leave().prop_map(|why| Event::Terminate { why }),
        Just(Event::Ended { why: Ending::Vanished }),
    ]
}

/// How far on its way a state is; an entry never goes back.
fn rank(state: &State) -> u8 {
    match state.kind() {
        StateKind::Intended => 0,
        StateKind::Requested => 1,
        StateKind::Launched => 2,
        StateKind::Ready => 3,
        StateKind::Draining => 4,
        StateKind::Terminating => 5,
        StateKind::Gone | StateKind::Failed => 6,
    }
}

proptest! {
    #[test]
    fn no_sequence_of_events_breaks_an_entry(events in prop::collection::vec(any_event(), 0..40)) {
        let mut entry = intended();
        for (second, event) in (1..).zip(&events) {
            let now = START.after(Duration::from_secs(second));
            let Ok(next) = apply(&entry, event, now) else { continue };
            prop_assert!(rank(&next.state) >= rank(&entry.state), "{entry:?} {event:?}");
            if !entry.state.counts() {
                prop_assert_eq!(&next.state, &entry.state, "an end is for good");
                prop_assert_eq!(next.times.ended, entry.times.ended);
            }
            if let Some(known) = entry.state.instance() {
                prop_assert_eq!(next.state.instance(), Some(known), "a machine stays the same");
            }
            if let (
                State::Draining { deadline: old, why: before, .. },
                State::Draining { deadline, why, .. },
            ) = (&entry.state, &next.state)
            {
                // An order grants its own time in the place of one that has passed.
                let granted = why.is_ordered() && !before.is_ordered() && *old <= now;
                prop_assert!(deadline <= old || granted, "a deadline is not put off");
            }
            prop_assert_eq!(next.state.counts(), next.times.ended.is_none());
            prop_assert_eq!(next.state.instance().is_some(), next.times.launched.is_some());
            prop_assert_eq!((next.version, next.id), (entry.version, entry.id));
            if !matches!(event, Event::Asked) {
                let again = apply(&next, event, now.after(Duration::from_secs(1)));
                prop_assert_eq!(again.as_ref().unwrap_or(&next), &next, "{:?} twice", event);
            }
            entry = next;
        }
        let text = toml::to_string(&entry).unwrap();
        prop_assert_eq!(toml::from_str::<Entry>(&text).unwrap(), entry);
    }

    #[test]
    fn money_is_charged_once_however_often_it_is_asked_for(
        mut steps in prop::collection::vec(0_u64..200_000, 1..40),
        life in 0_u64..200_000,
    ) {
        let entry = lived(life);
        let mut spend = Spend::default();
        let mut total = Money::ZERO;
        spend.charge(&of(&entry), START);
        steps.sort_unstable();
        let end = START.after(Duration::from_secs(400_000));
        let times = steps.iter().map(|second| START.after(Duration::from_secs(*second)));
        for now in times.chain([end]) {
            let before = spend;
            spend.charge(&of(&entry), now);
            let old = if before.month == spend.month { before.month_spent } else { Money::ZERO };
            total = total.plus(Money::from_micros(spend.month_spent.micros() - old.micros()));
            // A clock that went back charges nothing.
            let after = spend;
            spend.charge(&of(&entry), now.before(Duration::from_hours(1)));
            prop_assert_eq!(after, spend);
        }
        // A millidollar a second, and each charge rounds down by less than a micro-dollar.
        let exact = cost(&entry, end);
        let error = exact.micros() - total.micros();
        prop_assert!((0..=200).contains(&error), "{} for {}", total, exact);
    }
}

/// A machine that was there for so many seconds from [`START`] on.
fn lived(seconds: u64) -> Entry {
    let found = Event::Found { instance: instance(1), launched_at: START };
    let entry = apply(&intended(), &Event::Asked, START).unwrap();
    let entry = apply(&entry, &found, START).unwrap();
    let end = START.after(Duration::from_secs(seconds));
    apply(&entry, &Event::Ended { why: Ending::Elsewhere }, end).unwrap()
}

#[test]
fn the_way_of_a_machine() {
    let worker = WorkerId::from_bytes([1; 16]);
    let deadline = START.after(Duration::from_mins(10));
    let why = Leave::Planned { why: "idle".into() };
    let events = [
        (Event::Asked, StateKind::Requested),
        (Event::Found { instance: instance(1), launched_at: START }, StateKind::Launched),
        (Event::Registered { worker }, StateKind::Ready),
        (Event::Drain { deadline, why: why.clone() }, StateKind::Draining),
        (Event::Terminate { why: why.clone() }, StateKind::Terminating),
        (Event::Ended { why: Ending::Terminated(why) }, StateKind::Gone),
    ];
    let mut entry = intended();
    for (event, kind) in events {
        assert!(entry.state.counts());
        entry = apply(&entry, &event, START).unwrap();
        assert_eq!(entry.state.kind(), kind);
    }
    assert!(!entry.state.counts());
}

#[test]
fn what_may_have_been_asked_for_is_not_called_off() {
    let asked = apply(&intended(), &Event::Asked, START).unwrap();
    let off = Event::CalledOff { why: "frozen".into() };
    assert!(apply(&intended(), &off, START).is_ok());
    let refused = apply(&asked, &off, START).unwrap_err();
    assert_eq!(refused.to_string(), "a machine that is requested does not become failed");
}

#[test]
fn a_second_machine_of_one_token_is_told_apart() {
    let found = |number| Event::Found { instance: instance(number), launched_at: START };
    let entry = apply(&intended(), &found(1), START).unwrap();
    assert_eq!(
        apply(&entry, &found(2), START).unwrap_err(),
        Illegal::OtherInstance { known: instance(1), found: instance(2) }
    );
}

#[test]
fn a_short_life_costs_the_least_bill_and_nothing_is_owed_for_what_was_never_asked_for() {
    let now = START.after(Duration::from_hours(1));
    assert_eq!(cost(&lived(5), now), Money::from_micros(60_000));
    assert_eq!(cost(&lived(90), now), Money::from_micros(90_000));
    assert_eq!(cost(&intended(), now), Money::ZERO);
}

#[test]
fn a_budgets_windows_begin_at_midnight_and_never_anew() {
    // 2023-11-14 22:13:20 UTC, so that midnight is 6,400 s away.
    let entry = lived(1_000_000);
    let mut spend = Spend::default();
    spend.charge(&of(&entry), START);
    spend.charge(&of(&entry), START.after(Duration::from_mins(100)));
    assert_eq!(spend.day_spent, Money::from_micros(6_000_000));
    let next_day = START.after(Duration::from_secs(6_500));
    spend.charge(&of(&entry), next_day);
    assert_eq!(spend.day_spent, Money::from_micros(100_000));
    assert_eq!(spend.month_spent, Money::from_micros(6_500_000));
    spend.charge(&of(&entry), START);
    spend.charge(&of(&entry), next_day);
    assert_eq!(spend.month_spent, Money::from_micros(6_500_000));
}

#[test]
fn the_planner_sees_a_machine_from_its_intent_on() {
    let worker = WorkerSeen {
        id: WorkerId::from_bytes([1; 16]),
        machine: Some(MachineId::from_bytes([7; 16])),
        instance: None,
        presence: Presence::Ready,
        running: 2,
        idle_since: None,
        seen_at: START.after(Duration::from_secs(50)),
        notice: None,
        outdated: false,
        warm: vec![ModelName::new("mini").unwrap()],
        remaining: Some(Duration::from_secs(90)),
    };
    let workers = WorkerList { complete_since: START, workers: vec![worker.clone()] };
    let see = |entry: &Entry, workers: &WorkerList| {
        let ledger = Ledger { entries: of(entry), ..Ledger::default() };
        instances(&ledger, workers).remove(&entry.order.pool).map(|mut all| all.remove(0))
    };
    let entry = intended();
    assert_eq!(see(&entry, &workers).unwrap().state, InstanceState::Booting);
    let found = Event::Found { instance: instance(1), launched_at: START };
    let entry = apply(&entry, &found, START).unwrap();
    let entry = apply(&entry, &Event::Registered { worker: worker.id }, START).unwrap();
    let seen = see(&entry, &workers).unwrap();
    assert_eq!((seen.running(), &seen.warm), (2, &worker.warm));
    assert_eq!(seen.remaining, worker.remaining);
    assert_eq!(seen.seen_at, worker.seen_at);
    // A worker that a coordinator does not know yet has not been silent for longer than that runs.
    let restarted =
        WorkerList { complete_since: START.after(Duration::from_mins(9)), workers: Vec::new() };
    assert_eq!(see(&entry, &restarted).unwrap().seen_at, restarted.complete_since);
    assert!(see(&lived(5), &workers).is_none());
}
