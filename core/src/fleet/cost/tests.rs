use proptest::collection::vec;
use proptest::prelude::*;

use crate::fleet::ledger::{Ending, Leave, Order, State, Times, cost};
use crate::ids::{Epoch, InstanceName, MachineId, WorkerId};
use crate::money::HourlyPrice;

use super::*;

/// 2023-11-14T22:13:20Z: less than two hours before midnight.
const START: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);
const DAY: i64 = 19_675;
const EVER: Period = Period { from: Timestamp::from_unix_millis(0), until: Timestamp::MAX };

fn at(seconds: u64) -> Timestamp {
    START.after(Duration::from_secs(seconds))
}

/// A machine at $3.60 an hour: a tenth of a cent each second.
fn machine(number: u8, state: State, times: Times) -> Entry {
    let order = Order {
        pool: PoolName::new(if number.is_multiple_of(2) { "even" } else { "odd" }).unwrap(),
        offering: OfferingName::new("g5.spot").unwrap(),
        provider: "memory".into(),
        region: "r".into(),
        zone: "a".into(),
        instance_type: "g5".into(),
        capacity: CapacityType::Spot,
        price: HourlyPrice::new(Money::from_micros(3_600_000)),
        template: "lt-1".into(),
        reason: "load".into(),
    };
    let id = MachineId::from_bytes([number; 16]);
    Entry { id, version: 1, epoch: Epoch::new(1), order, state, times }
}

fn instance() -> InstanceName {
    InstanceName::new("i-1").unwrap()
}

fn ready() -> State {
    State::Ready { instance: instance(), worker: WorkerId::from_bytes([1; 16]) }
}

fn gone(why: Ending) -> State {
    State::Gone { instance: instance(), why }
}

fn usage(model: &str, tenant: &str, taken: u64, busy: u64) -> Usage {
    Usage {
        day: DAY,
        pool: PoolName::new("odd").unwrap(),
        model: ModelName::new(model).unwrap(),
        tenant: TenantName::new(tenant).unwrap(),
        taken: Duration::from_secs(taken),
        busy: Duration::from_secs(busy),
    }
}

/// Millionths of a dollar by use.
fn by_use(items: &[Item]) -> Vec<(&'static str, i64)> {
    let of = |usage: Use| items.iter().filter(move |item| item.usage == usage);
    let sum = |usage: Use| of(usage).map(|item| item.money.micros()).sum::<i64>();
    Use::ALL.into_iter().map(|usage| (usage.name(), sum(usage))).collect()
}

fn born(ready: Option<u64>, noticed: Option<u64>, ended: Option<u64>) -> Times {
    Times {
        intended: START,
        requested: Some(START),
        launched: Some(START),
        ready: ready.map(at),
        noticed: noticed.map(at),
        ended: ended.map(at),
        ..Times::default()
    }
}

#[test]
fn a_life_is_booted_served_and_lost() {
    let entry = machine(1, gone(Ending::Interrupted), born(Some(100), Some(400), Some(520)));
    let items = bill([&entry], &[usage("mini", "a", 500, 75)], EVER, at(9_000));
    // 300 s of service, a quarter of them busy.
    let expected = [("run", 75_000), ("idle", 225_000), ("boot", 100_000), ("lost", 120_000)];
    assert_eq!(by_use(&items), expected);
}

#[test]
fn only_what_the_provider_took_is_lost() {
    let called_off = Ending::Terminated(Leave::Planned { why: "empty".into() });
    let entry = machine(1, gone(called_off), born(Some(100), Some(400), Some(520)));
    let items = bill([&entry], &[], EVER, at(9_000));
    assert_eq!(by_use(&items), [("run", 0), ("idle", 420_000), ("boot", 100_000), ("lost", 0)]);
    let early = machine(1, gone(Ending::Interrupted), born(None, Some(50), Some(90)));
    let items = bill([&early], &[], EVER, at(9_000));
    assert_eq!(by_use(&items)[3], ("lost", 90_000), "it was never of use");
    let stuck =
        machine(1, gone(Ending::Terminated(Leave::NeverRegistered)), born(None, None, Some(90)));
    let items = bill([&stuck], &[], EVER, at(9_000));
    assert_eq!(by_use(&items)[2], ("boot", 90_000));
}

#[test]
fn what_ran_is_shared_by_the_time_it_took() {
    let entry = machine(1, ready(), born(Some(0), None, None));
    let used = [usage("mini", "a", 300, 60), usage("mini", "b", 100, 40), usage("big", "a", 0, 0)];
    let items = bill([&entry], &used, EVER, at(1_000));
    let ran: Vec<_> = items
        .iter()
        .filter_map(|item| Some((item.ran.as_ref()?.1.as_str(), item.money.micros())))
        .collect();
    assert_eq!(ran, [("a", 75_000), ("b", 25_000)]);
    let busy = [usage("mini", "a", 9_000, 9_000)];
    let items = bill([&entry], &busy, EVER, at(1_000));
    assert_eq!(by_use(&items)[..2], [("run", 1_000_000), ("idle", 0)], "more than all is all");
}

#[test]
fn midnight_and_the_period_cut_a_bill() {
    let entry = machine(1, ready(), born(Some(0), None, None));
    let midnight = 6_400;
    let items = bill([&entry], &[], EVER, at(midnight + 100));
    let days: Vec<_> = items.iter().map(|item| (item.day, item.money.micros())).collect();
    assert_eq!(days, [(DAY, 6_400_000), (DAY + 1, 100_000)]);
    let period = Period { from: at(50), until: at(80) };
    let items = bill([&entry], &[], period, at(midnight));
    assert_eq!(items.iter().map(|item| item.money).sum::<Money>(), Money::from_micros(30_000));
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let times = (0_i64..200_000_000, vec(prop::option::of(0_i64..100_000_000), 4));
    (any::<u8>(), times, 0_u8..5, 1_i64..50_000_000).prop_map(
        |(number, (begin, later), state, price)| {
            let time = |index: usize| {
                let offset: Option<i64> = later[index];
                offset.map(|offset| {
                    Timestamp::from_unix_millis(START.as_unix_millis() + begin + offset)
                })
            };
            let begin = Timestamp::from_unix_millis(START.as_unix_millis() + begin);
            let ends = state != 0;
            let times = Times {
                intended: begin,
                requested: (state != 4).then_some(begin),
                launched: time(0),
                ready: time(1),
                noticed: time(2),
                ended: if ends { time(3).or(Some(begin)) } else { None },
                ..Times::default()
            };
            let state = match state {
                0 => ready(),
                1 => gone(Ending::Interrupted),
                2 => gone(Ending::Terminated(Leave::Interrupted)),
                3 => gone(Ending::Elsewhere),
                _ => State::Failed {
                    class: crate::fleet::ledger::Failure::Capacity,
                    why: "x".into(),
                },
            };
            let mut entry = machine(number, state, times);
            entry.order.price = HourlyPrice::new(Money::from_micros(price));
            entry
        },
    )
}

fn any_usage() -> impl Strategy<Value = Usage> {
    (0_i64..4, any::<bool>(), 0_u8..3, 0_u64..200_000, 0_u64..100_000).prop_map(
        |(day, odd, tenant, taken, busy)| Usage {
            day: DAY + day,
            pool: PoolName::new(if odd { "odd" } else { "even" }).unwrap(),
            ..usage("mini", &format!("t{tenant}"), taken, busy)
        },
    )
}

proptest! {
    #[test]
    fn the_parts_add_up_to_the_whole(
        entries in vec(any_entry(), 0..12),
        used in vec(any_usage(), 0..12),
        now in 0_u64..400_000,
        cut in 0_u64..400_000,
    ) {
        let now = at(now);
        let whole: Money = entries.iter().map(|entry| cost(entry, now)).sum();
        let sum = |items: &[Item]| items.iter().map(|item| item.money).sum::<Money>();
        let items = bill(&entries, &used, EVER, now);
        prop_assert_eq!(sum(&items), whole);
        prop_assert!(items.iter().all(|item| item.money > Money::ZERO));
        prop_assert!(items.iter().all(|item| item.ran.is_some() == (item.usage == Use::Run)));
        let before = bill(&entries, &used, Period { until: at(cut), ..EVER }, now);
        let after = bill(&entries, &used, Period { from: at(cut), ..EVER }, now);
        prop_assert_eq!(sum(&before).plus(sum(&after)), whole, "a cut loses nothing");
    }
}
