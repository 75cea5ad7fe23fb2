use std::collections::BTreeMap;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use stoker_core::fleet::ledger::{
    Account, Ending, Entry, Leave, Order, Spend, State, Switch, Times,
};
use stoker_core::fleet::{Budget, CapacityType, Market};
use stoker_core::ids::{Epoch, InstanceName, MachineId, OfferingName, PoolName, WorkerId};
use stoker_core::money::{HourlyPrice, Money};
use stoker_proto::well_known;

use super::*;
use crate::render::time::to_wire;

const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

fn seconds(seconds: i64) -> well_known::Duration {
    well_known::Duration { seconds, nanos: 0 }
}

fn entry(number: u8, state: State) -> Entry {
    let order = Order {
        pool: PoolName::new("gpu").unwrap(),
        offering: OfferingName::new("g5.a").unwrap(),
        provider: "ec2".into(),
        region: "r".into(),
        zone: "a".into(),
        instance_type: "g5".into(),
        capacity: CapacityType::Spot,
        price: HourlyPrice::new(Money::from_micros(1_200_000)),
        template: "lt-1".into(),
        reason: "the backlog needs 1 more".into(),
    };
    let began = NOW.before(Duration::from_mins(u64::from(number) * 10));
    let times = Times {
        intended: began,
        requested: Some(began),
        launched: Some(began),
        ended: (!state.counts()).then(|| NOW.before(Duration::from_mins(1))),
        ..Times::default()
    };
    Entry {
        id: MachineId::from_bytes([number; 16]),
        version: 1,
        epoch: Epoch::new(1),
        order,
        state,
        times,
    }
}

fn ledger() -> LedgerView {
    let instance = |name: &str| InstanceName::new(name).unwrap();
    let (worker, why) =
        (WorkerId::from_bytes([7; 16]), Leave::Planned { why: "it was empty".into() });
    let entries = [
        entry(1, State::Ready { instance: instance("i-1"), worker }),
        entry(2, State::Gone { instance: instance("i-2"), why: Ending::Terminated(why) }),
    ];
    let market = Market { launched: 9, refused: 1, interrupted: 2, ..Market::default() };
    let offering = OfferingName::new("g5.a").unwrap();
    LedgerView {
        entries: entries.into_iter().map(|entry| (entry.id, entry)).collect(),
        account: Account {
            markets: [(PoolName::new("gpu").unwrap(), BTreeMap::from([(offering, market)]))].into(),
            spend: Spend {
                charged_until: Some(NOW),
                day: 19_675,
                month: 24_284,
                day_spent: Money::from_micros(3_000_000),
                month_spent: Money::from_micros(40_000_000),
            },
            ..Account::default()
        },
        switch: Switch::default(),
        budget: Some(Budget { per_month: Money::from_micros(100_000_000), ..Budget::default() }),
        read_at: NOW,
        memory: None,
    }
}

fn snapshot() -> Snapshot {
    let fleet = v1::FleetStatusResponse {
        fleet: "prod".into(),
        jobs: vec![
            v1::StateCount { state: v1::JobState::Queued.into(), jobs: 1_500 },
            v1::StateCount { state: v1::JobState::Succeeded.into(), jobs: 9 },
        ],
        workers_ready: 1,
        workers_total: 1,
        classes: vec![v1::ClassPromise {
            name: "fast".into(),
            max_wait: Some(seconds(60)),
            objective: 0.99,
        }],
        ..v1::FleetStatusResponse::default()
    };
    let demand = v1::Demand {
        class: "fast".into(),
        waiting: vec![v1::WaitingJobs {
            start_by: Some(to_wire(NOW.before(Duration::from_secs(5)))),
            jobs: 3,
        }],
        slots: vec![v1::DemandSlot { started: 200, started_late: 3, ..Default::default() }],
        ..v1::Demand::default()
    };
    let queue = v1::Queue {
        pool: "gpu".into(),
        model: "mini".into(),
        queued: 1_500,
        slots: 4,
        leased: 4,
        oldest_age: Some(seconds(65)),
        ..v1::Queue::default()
    };
    let worker = v1::Worker {
        id: WorkerId::from_bytes([7; 16]).to_string(),
        pool: "gpu".into(),
        state: v1::WorkerState::Ready.into(),
        slots: 4,
        busy_slots: 4,
        ..v1::Worker::default()
    };
    Snapshot {
        server: "http://h:1".into(),
        now: NOW,
        fleet,
        queues: vec![queue],
        workers: vec![worker],
        demands: Ok(vec![demand]),
        ledger: Ok(ledger()),
    }
}

#[test]
fn a_frame_shows_promises_queues_pools_machines_money_and_decisions() {
    let snapshot = snapshot();
    let text = text(&View { snapshot: &snapshot, overdue: None, problem: None }, 110);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expected/top.txt");
    if std::env::var_os("STOKER_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "bless it if it is meant");
}

#[test]
fn a_small_screen_shows_the_top_and_the_keys() {
    let snapshot = snapshot();
    let mut terminal = Terminal::new(TestBackend::new(60, 8)).unwrap();
    let view = View { snapshot: &snapshot, overdue: None, problem: Some("connection refused") };
    terminal.draw(|frame| draw(&view, frame)).unwrap();
    let screen = terminal.backend().to_string();
    for part in ["prod at http://h:1", "PROBLEM:   connection refused", "q quit   r look again"] {
        assert!(screen.contains(part), "`{part}`: {screen}");
    }
    assert!(!screen.contains("Last decisions"), "{screen}");
}

#[test]
fn what_cannot_be_read_is_said() {
    let mut snapshot = snapshot();
    snapshot.demands = Err("no answer".into());
    snapshot.ledger = Err("refused".into());
    let text = text(&View { snapshot: &snapshot, overdue: None, problem: None }, 100);
    assert!(text.contains("not known: no answer") && text.contains("not known: refused"), "{text}");
    // A screen without room is no reason to fail.
    let mut terminal = Terminal::new(TestBackend::new(1, 1)).unwrap();
    let view = View { snapshot: &snapshot, overdue: None, problem: None };
    terminal.draw(|frame| draw(&view, frame)).unwrap();
}

#[test]
fn the_longest_parts_make_room_for_the_others() {
    let mut snapshot = snapshot();
    let Ok(ledger) = &mut snapshot.ledger else { panic!() };
    let worker = WorkerId::from_bytes([7; 16]);
    for number in 10..40 {
        let instance = InstanceName::new(&format!("i-{number}")).unwrap();
        let ready = entry(number, State::Ready { instance, worker });
        ledger.entries.insert(ready.id, ready);
    }
    let mut terminal = Terminal::new(TestBackend::new(100, 36)).unwrap();
    let view = View { snapshot: &snapshot, overdue: None, problem: None };
    terminal.draw(|frame| draw(&view, frame)).unwrap();
    let screen = terminal.backend().to_string();
    // A line of titles and 30 machines of which some are told of; the rest is whole.
    for part in ["i-10 ", "... and ", "Last decisions", "AGO", "q quit"] {
        assert!(screen.contains(part), "`{part}`: {screen}");
    }
    assert!(!screen.contains("i-39 "), "{screen}");
    let shown = screen.lines().filter(|line| line.contains(" spot ")).count();
    let hidden = screen.lines().find_map(|line| line.split("... and ").nth(1));
    let hidden: usize = hidden.unwrap().split(' ').next().unwrap().parse().unwrap();
    assert_eq!(shown + hidden, 31);
}

#[test]
fn machines_that_nobody_looks_after_are_told_of() {
    let mut snapshot = snapshot();
    let Ok(ledger) = &mut snapshot.ledger else { panic!() };
    ledger.account.spend.charged_until = Some(NOW.before(Duration::from_mins(3)));
    let told = |snapshot: &Snapshot| {
        let text = text(&View { snapshot, overdue: None, problem: None }, 110);
        text.contains(
            "PROBLEM:   the autoscaler has written nothing for 3m00s, and 1 machine costs",
        )
    };
    assert!(told(&snapshot));
    let Ok(ledger) = &mut snapshot.ledger else { panic!() };
    ledger.entries.retain(|_, entry| !entry.state.counts());
    assert!(!told(&snapshot), "nothing costs anything");
}

#[test]
fn what_is_old_says_so() {
    let snapshot = snapshot();
    let view = View { snapshot: &snapshot, overdue: Some(Duration::from_secs(70)), problem: None };
    let text = text(&view, 100);
    assert!(text.contains("PROBLEM:   this is from 1m10s ago"), "{text}");
}
