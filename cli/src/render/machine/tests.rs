use std::time::Duration;

use stoker_core::fleet::Budget;
use stoker_core::fleet::ledger::{Account, Leave, Order, Spend, Times};
use stoker_core::ids::{Epoch, InstanceName, MachineId, OfferingName, PoolName, WorkerId};
use stoker_core::money::HourlyPrice;

use super::*;

const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

fn entry(number: u8, state: State) -> Entry {
    let capacity = if number == 1 { CapacityType::OnDemand } else { CapacityType::Spot };
    let order = Order {
        pool: PoolName::new("default").unwrap(),
        offering: OfferingName::new("g5.xlarge.a").unwrap(),
        provider: "ec2".into(),
        region: "r".into(),
        zone: "a".into(),
        instance_type: "g5.xlarge".into(),
        capacity,
        price: HourlyPrice::new(Money::from_micros(1_500_000)),
        template: "lt-1:4".into(),
        reason: "the backlog needs 2 more".into(),
    };
    let began = NOW.before(Duration::from_hours(1));
    Entry {
        id: MachineId::from_bytes([number; 16]),
        version: 1,
        epoch: Epoch::new(1),
        order,
        state,
        times: Times { intended: began, requested: Some(began), ..Times::default() },
    }
}

fn instance() -> InstanceName {
    InstanceName::new("i-0a1").unwrap()
}

fn ledger(entries: Vec<Entry>) -> LedgerView {
    let spend = Spend {
        charged_until: Some(NOW.before(Duration::from_mins(30))),
        day: 19_675,
        month: 24_284,
        day_spent: Money::from_micros(4_000_000),
        month_spent: Money::from_micros(90_000_000),
    };
    LedgerView {
        entries: entries.into_iter().map(|entry| (entry.id, entry)).collect(),
        account: Account { spend, ..Account::default() },
        switch: Switch::default(),
        budget: Some(Budget {
            max_instances: 8,
            per_day: Money::from_micros(50_000_000),
            ..Budget::default()
        }),
        read_at: NOW,
        memory: None,
    }
}

#[test]
fn the_page_charges_on_to_this_moment_and_shows_each_machine() {
    let worker = WorkerId::from_bytes([7; 16]);
    let leaving = State::Draining {
        instance: instance(),
        worker,
        deadline: NOW.after(Duration::from_mins(2)),
        why: Leave::DrainSwitch,
    };
    let ended = State::Failed {
        class: stoker_core::fleet::ledger::Failure::Capacity,
        why: "none left".into(),
    };
    let mut failed = entry(4, ended);
    failed.times.ended = Some(NOW.before(Duration::from_mins(50)));
    let mut ledger = ledger(vec![
        entry(1, State::Ready { instance: instance(), worker }),
        entry(2, State::Requested { calls: 3 }),
        entry(3, leaving),
        failed,
    ]);
    ledger.switch = Switch {
        mode: Mode::Drain,
        version: 2,
        by: "ann".into(),
        why: "the day is over".into(),
        set_at: NOW.before(Duration::from_secs(90)),
    };
    let workers =
        [v1::Worker { id: worker.to_string(), slots: 4, busy_slots: 3, ..v1::Worker::default() }];
    let shown = Page { ledger: &ledger, workers: &workers };
    // Half an hour of three machines at $1.50 on top of the account's $4.
    assert_eq!(
        page(&shown),
        "switch:      drain, by ann 1m30s ago: the day is over\n\
         autoscaler:  PROBLEM: has written nothing for 30m00s, and 3 machines cost money\n\
         machines:    3 machines of at most 8: 1 requested, 1 ready, 1 draining; 2 spot, 1 on-demand\n\
         spending:    $4.50 an hour (no cap); $6.25 of $50.00 today; $92.25 this month (no cap)\n\
         \n\
         MACHINE                               POOL     STATE                  INSTANCE  OFFERING     CAPACITY      PRICE    AGE  BUSY  WHY\n\
         02020202-0202-0202-0202-020202020202  default  requested (3 calls)    -         g5.xlarge.a  spot       $1.500/h  1h00m     -  the backlog needs 2 more\n\
         01010101-0101-0101-0101-010101010101  default  ready                  i-0a1     g5.xlarge.a  on-demand  $1.500/h  1h00m   3/4  the backlog needs 2 more\n\
         03030303-0303-0303-0303-030303030303  default  draining (2m00s left)  i-0a1     g5.xlarge.a  spot       $1.500/h  1h00m   3/4  the fleet is being drained\n"
    );
    let value = serde_json::to_value(document(&shown)).unwrap();
    assert_eq!(value["today"], 6.25);
    assert_eq!(value["caps"]["instances"], 8);
    assert_eq!(value["caps"]["per_hour"], serde_json::Value::Null);
    assert_eq!(value["machines"].as_array().unwrap().len(), 3);
    assert_eq!(value["switch"]["mode"], "drain");
}

#[test]
fn a_machine_whose_worker_takes_no_work_says_so() {
    let worker = WorkerId::from_bytes([7; 16]);
    let ledger = ledger(vec![entry(1, State::Ready { instance: instance(), worker })]);
    let cordoned = v1::Worker {
        id: worker.to_string(),
        state: v1::WorkerState::Cordoned.into(),
        ..v1::Worker::default()
    };
    let text = page(&Page { ledger: &ledger, workers: &[cordoned] });
    assert!(text.contains("ready (cordoned)"), "{text}");
}

#[test]
fn an_empty_ledger_says_that_nobody_writes_it() {
    let ledger = LedgerView { account: Account::default(), budget: None, ..ledger(Vec::new()) };
    let text = page(&Page { ledger: &ledger, workers: &[] });
    assert_eq!(
        text,
        "switch:      run, never set\n\
         autoscaler:  has never written the ledger\n\
         machines:    none\n\
         spending:    $0.00 an hour; $0.00 today; $0.00 this month\n"
    );
}
