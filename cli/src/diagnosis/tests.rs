use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::fleet::ledger::{
    Account, Breaker, Ending, Entry, Failure, Leave, Mode, Order, Quota, Spend, State, Switch,
};
use stoker_core::fleet::{Budget, CapacityType};
use stoker_core::ids::{Epoch, InstanceName, MachineId, OfferingName, PoolName, WorkerId};
use stoker_core::money::{HourlyPrice, Money};

use super::*;
use crate::render::time::to_wire;

const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);
const OFFERING: &str =
    "[[pools.default.offerings]]\ninstance-type = 'g5'\nzone = 'a'\nprice = 1.0\n";

fn fleet(more: &str) -> Fleet {
    let text = format!(
        "fleet = 'dev'\n[classes.standard]\nmax-wait = '60s'\n[models.echo]\ntask = 'echo'\n\
         [pools.default]\nmodels = ['echo']\n{more}"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.toml");
    std::fs::write(&path, text).unwrap();
    stoker_runtime::fleet::load_fleet(&path).unwrap()
}

/// A fleet in which all is well.
fn healthy() -> Evidence {
    let status = v1::FleetStatusResponse {
        fleet: "dev".into(),
        version: "0.1.0".into(),
        store: "sqlite".into(),
        broker: "embedded".into(),
        observed_at: Some(to_wire(NOW)),
        free_disk_bytes: Some(9 << 30),
        min_free_disk_bytes: 1 << 30,
        ..v1::FleetStatusResponse::default()
    };
    let worker = v1::Worker {
        id: "w1".into(),
        version: "0.1.0".into(),
        state: v1::WorkerState::Ready.into(),
        ..v1::Worker::default()
    };
    let queue =
        v1::Queue { pool: "default".into(), model: "echo".into(), slots: 4, ..Default::default() };
    Evidence {
        file_name: "fleet.toml".into(),
        file: File::Valid(Box::new(fleet(""))),
        server: "http://h:1".into(),
        version: "0.1.0",
        status: Ok(status),
        asked_at: NOW,
        answered_at: NOW,
        queues: Ok(vec![queue]),
        workers: Ok(vec![worker]),
        ledger: Ok(LedgerView {
            entries: BTreeMap::new(),
            account: Account::default(),
            switch: Switch::default(),
            budget: Some(Budget::default()),
            read_at: NOW,
            memory: None,
        }),
    }
}

/// The findings of a check that are not good.
fn bad(evidence: &Evidence) -> Vec<(&'static str, Level)> {
    let findings = diagnose(evidence);
    for finding in &findings {
        assert_eq!(finding.remedy.is_none(), finding.level == Level::Good, "{finding:?}");
    }
    let bad = findings.iter().filter(|finding| finding.level != Level::Good);
    bad.map(|finding| (finding.check, finding.level)).collect()
}

fn with(change: impl FnOnce(&mut Evidence)) -> Vec<(&'static str, Level)> {
    let mut evidence = healthy();
    change(&mut evidence);
    bad(&evidence)
}

fn status(change: impl FnOnce(&mut v1::FleetStatusResponse)) -> Vec<(&'static str, Level)> {
    with(|evidence| change(evidence.status.as_mut().unwrap()))
}

fn queue(change: impl FnOnce(&mut v1::Queue)) -> Vec<(&'static str, Level)> {
    with(|evidence| change(&mut evidence.queues.as_mut().unwrap()[0]))
}

fn worker(change: impl FnOnce(&mut v1::Worker)) -> Vec<(&'static str, Level)> {
    with(|evidence| change(&mut evidence.workers.as_mut().unwrap()[0]))
}

fn ledger(change: impl FnOnce(&mut LedgerView)) -> Vec<(&'static str, Level)> {
    with(|evidence| change(evidence.ledger.as_mut().unwrap()))
}

#[test]
fn a_healthy_fleet_has_nothing_wrong() {
    assert_eq!(bad(&healthy()), []);
}

#[test]
fn the_file_is_valid_broken_or_not_there() {
    let invalid = File::Invalid(vec!["classes: there is none".into()]);
    let expected = [("fleet file", Level::Problem), ("cloud", Level::Unchecked)];
    assert_eq!(with(|evidence| evidence.file = invalid), expected);
    let expected = [("fleet file", Level::Unchecked), ("cloud", Level::Unchecked)];
    assert_eq!(with(|evidence| evidence.file = File::Absent), expected);
}

#[test]
fn without_a_coordinator_nothing_else_is_said() {
    let found = with(|evidence| evidence.status = Err("refused".into()));
    assert_eq!(found, [("coordinator", Level::Problem)]);
}

#[test]
fn each_fault_of_the_coordinator_has_its_finding() {
    assert_eq!(status(|s| s.fleet = "prod".into()), [("coordinator", Level::Problem)]);
    let versions = status(|s| s.version = "0.2.0".into());
    assert_eq!(versions, [("version", Level::Warning), ("workers", Level::Warning)]);
    assert_eq!(status(|s| s.outbox = 10_001), [("store", Level::Warning)]);
    assert_eq!(status(|s| s.free_disk_bytes = Some(1)), [("disk", Level::Problem)]);
    assert_eq!(status(|s| s.free_disk_bytes = Some(3 << 29)), [("disk", Level::Warning)]);
    assert_eq!(status(|s| s.free_disk_bytes = None), [("disk", Level::Unchecked)]);
    assert_eq!(status(|s| s.broker_problem = "down".into()), [("broker", Level::Problem)]);
    assert_eq!(status(|s| s.dead_letters = 1), [("dead letters", Level::Warning)]);
}

#[test]
fn a_fleet_that_buys_machines_and_asks_operators_for_nothing_is_told_of() {
    const EC2: &str = "[provider.ec2.us-east-1]\nsubnets = { us-east-1a = 'subnet-0a' }\n\
         launch-templates.default = { id = 'lt-0b', version = '3' }\n";
    let warned = [("operators", Level::Warning)];
    let none: [(&str, Level); 0] = [];
    assert_eq!(ledger(|l| l.account.intents = 1), warned);
    let bought = |provider: &str, guarded: bool| {
        let found = with(|evidence| {
            evidence.file = File::Valid(Box::new(fleet(provider)));
            evidence.status.as_mut().unwrap().changes_need_token = guarded;
            evidence.ledger.as_mut().unwrap().account.intents = 1;
        });
        found.into_iter().filter(|(check, _)| *check == "operators").collect::<Vec<_>>()
    };
    assert_eq!(bought(EC2, false), warned);
    assert_eq!(bought(EC2, true), none);
    assert_eq!(bought("[provider.local]\n", false), none);
}

#[test]
fn a_clock_is_wrong_only_beyond_the_calls_own_time() {
    let shifted = |millis: i64| {
        status(|s| {
            s.observed_at =
                Some(to_wire(Timestamp::from_unix_millis(NOW.as_unix_millis() + millis)));
        })
    };
    assert_eq!(shifted(1_999), []);
    assert_eq!(shifted(-2_000), [("clock", Level::Warning)]);
    assert_eq!(shifted(300_000), [("clock", Level::Problem)]);
    let slow = with(|evidence| {
        evidence.answered_at = NOW.after(Duration::from_secs(9));
        let theirs = NOW.after(Duration::from_secs(8));
        evidence.status.as_mut().unwrap().observed_at = Some(to_wire(theirs));
    });
    assert_eq!(slow, [], "the answer took that long");
}

#[test]
fn workers_that_do_not_work_are_named() {
    assert_eq!(
        worker(|w| w.state = v1::WorkerState::Cordoned.into()),
        [("workers", Level::Warning)]
    );
    assert_eq!(worker(|w| w.state = v1::WorkerState::Lost.into()), [("workers", Level::Warning)]);
    assert_eq!(worker(|w| w.version = "0.0.9".into()), [("workers", Level::Warning)]);
    assert_eq!(with(|evidence| evidence.workers = Err("x".into())), [("workers", Level::Problem)]);
}

/// A machine that was asked for so many minutes ago.
fn machine(number: u8, minutes: u64, state: State) -> Entry {
    let order = Order {
        pool: PoolName::new("default").unwrap(),
        offering: OfferingName::new("g5.a").unwrap(),
        provider: "ec2".into(),
        region: "us-east-1".into(),
        zone: "us-east-1a".into(),
        instance_type: "g5".into(),
        capacity: CapacityType::OnDemand,
        price: HourlyPrice::new(Money::from_micros(1_000_000)),
        template: "lt-1:3".into(),
        reason: "load".into(),
    };
    let at = NOW.before(Duration::from_mins(minutes));
    let id = MachineId::from_bytes([number; 16]);
    let mut entry = Entry::intended(id, Epoch::new(1), order, at);
    if state.instance().is_some() {
        entry.times.launched = Some(at);
    }
    if !state.counts() {
        entry.times.ended = Some(at);
    }
    entry.state = state;
    entry
}

fn machines(entries: impl IntoIterator<Item = Entry>) -> BTreeMap<MachineId, Entry> {
    entries.into_iter().map(|entry| (entry.id, entry)).collect()
}

#[test]
fn workers_that_went_with_a_machine_that_was_ended_are_as_they_should_be() {
    let instance = InstanceName::new("i-1").unwrap();
    let planned = Leave::Planned { why: "empty".into() };
    let gone = |why: Ending| State::Gone { instance: instance.clone(), why };
    let lost = |state: State| {
        with(|evidence| {
            let worker = &mut evidence.workers.as_mut().unwrap()[0];
            worker.state = v1::WorkerState::Lost.into();
            worker.instance = "i-1".into();
            let ledger = evidence.ledger.as_mut().unwrap();
            ledger.account.spend.charged_until = Some(NOW);
            ledger.budget = Some(Budget { per_month: Money::from_micros(1), ..Budget::default() });
            ledger.entries = machines([machine(1, 9, state)]);
        })
    };
    let warned = [("workers", Level::Warning)];
    let none: [(&str, Level); 0] = [];
    let (name, why, deadline) = (instance.clone(), planned.clone(), NOW);
    let worker = WorkerId::from_bytes([1; 16]);
    let drains = State::Draining { instance: name, worker, deadline, why };
    assert_eq!(lost(drains), warned, "what it had to finish is run again elsewhere");
    let ends = State::Terminating { instance: instance.clone(), why: planned.clone() };
    assert_eq!(lost(ends), none);
    assert_eq!(lost(gone(Ending::Terminated(planned))), none);
    assert_eq!(lost(gone(Ending::Interrupted)), none);
    assert_eq!(lost(gone(Ending::Elsewhere)), warned);
    assert_eq!(lost(gone(Ending::Vanished)), warned);
    let other = InstanceName::new("i-2").unwrap();
    assert_eq!(lost(gone_of(&other)), warned, "it is another's machine");
    assert_eq!(lost(State::Ready { instance, worker }), warned, "its machine is there");
}

fn gone_of(instance: &InstanceName) -> State {
    State::Gone { instance: instance.clone(), why: Ending::Interrupted }
}

#[test]
fn what_the_cloud_refuses_is_told_until_a_launch_goes_well() {
    let failed = |class| State::Failed { class, why: "VcpuLimitExceeded".into() };
    let told = |entries: Vec<Entry>| ledger(|l| l.entries = machines(entries));
    let none: [(&str, Level); 0] = [];
    let problem = [("launches", Level::Problem)];
    assert_eq!(told(vec![machine(1, 9, failed(Failure::Auth))]), problem);
    assert_eq!(told(vec![machine(1, 9, failed(Failure::Invalid))]), problem);
    let quota = || machine(1, 9, failed(Failure::Quota));
    assert_eq!(told(vec![quota()]), [("launches", Level::Warning)]);
    for copes in [Failure::Capacity, Failure::Throttled, Failure::NeverSeen, Failure::CalledOff] {
        assert_eq!(told(vec![machine(1, 9, failed(copes))]), none, "{copes:?}");
    }
    let had = |minutes| machine(2, minutes, gone_of(&InstanceName::new("i-2").unwrap()));
    assert_eq!(told(vec![quota(), had(5)]), none, "it was had since");
    assert_eq!(told(vec![quota(), had(20)]), [("launches", Level::Warning)], "that was before");
}

#[test]
fn a_template_that_does_not_boot_is_a_problem_until_it_is_tried_again() {
    let closed = |minutes: u64| {
        ledger(|l| {
            let until = NOW.before(Duration::from_mins(10)).after(Duration::from_mins(minutes));
            let breaker = Breaker { open_until: Some(until), ..Breaker::default() };
            l.account.breakers = [("lt-1:3".to_owned(), breaker)].into();
        })
    };
    assert_eq!(closed(15), [("launches", Level::Problem)]);
    assert_eq!(closed(10), []);
}

#[test]
fn quotas_that_the_autoscaler_read_are_told_and_one_that_is_too_small_is_a_problem() {
    let quota = |most| {
        let quota = Quota {
            name: "Running On-Demand G instances".into(),
            region: "us-east-1".into(),
            capacity: CapacityType::OnDemand,
            most,
            units: [("g5".to_owned(), 4)].into(),
        };
        let instance = InstanceName::new("i-1").unwrap();
        let worker = WorkerId::from_bytes([1; 16]);
        with(|evidence| {
            let ledger = evidence.ledger.as_mut().unwrap();
            ledger.account.quotas = vec![quota];
            ledger.account.spend.charged_until = Some(NOW);
            ledger.budget = Some(Budget { per_month: Money::from_micros(1), ..Budget::default() });
            ledger.entries = machines([machine(1, 9, State::Ready { instance, worker })]);
        })
    };
    assert_eq!(quota(8), []);
    assert_eq!(quota(7), [("quota", Level::Warning)], "one is there, and no other fits");
    assert_eq!(quota(3), [("quota", Level::Problem)]);
}

#[test]
fn a_queue_without_workers_is_as_bad_as_what_waits_in_it() {
    assert_eq!(queue(|q| q.slots = 0), [("queues", Level::Warning)]);
    assert_eq!(queue(|q| (q.slots, q.queued) = (0, 1)), [("queues", Level::Problem)]);
    let mut bought = healthy();
    bought.file = File::Valid(Box::new(fleet(OFFERING)));
    bought.ledger.as_mut().unwrap().account.spend.charged_until = Some(NOW);
    bought.queues.as_mut().unwrap()[0].slots = 0;
    assert_eq!(bad(&bought), [], "it scales to zero");
    bought.queues.as_mut().unwrap()[0].queued = 1;
    assert_eq!(bad(&bought), [("queues", Level::Warning)]);
}

#[test]
fn an_autoscaler_that_should_be_there_is_missed() {
    let buys = |evidence: &mut Evidence| evidence.file = File::Valid(Box::new(fleet(OFFERING)));
    assert_eq!(with(buys), [("autoscaler", Level::Problem)], "it never wrote");
    let silent = with(|evidence| {
        buys(evidence);
        let account = &mut evidence.ledger.as_mut().unwrap().account;
        account.spend.charged_until = Some(NOW.before(Duration::from_mins(3)));
    });
    assert_eq!(silent, [("autoscaler", Level::Problem)]);
}

#[test]
fn the_switch_and_a_budget_that_is_nearly_spent_are_told() {
    let frozen = Switch { mode: Mode::Freeze, version: 1, ..Switch::default() };
    assert_eq!(ledger(|l| l.switch = frozen), [("switch", Level::Warning)]);
    let spent = |dollars: i64| {
        ledger(|l| {
            let per_day = Money::from_micros(100_000_000);
            l.budget = Some(Budget { per_day, ..Budget::default() });
            l.account.spend = Spend {
                charged_until: Some(NOW),
                day: 19_675,
                month: 24_284,
                day_spent: Money::from_micros(dollars * 1_000_000),
                ..Spend::default()
            };
        })
    };
    assert_eq!(spent(79), []);
    assert_eq!(spent(80), [("budget", Level::Warning)]);
    assert_eq!(spent(100), [("budget", Level::Problem)]);
}

#[test]
fn certificates_that_end_are_told_of_where_machines_are_checked() {
    const DAY: i64 = 24 * 3_600;
    let with = |ends: &[i64]| {
        let certificate = |seconds: &i64| v1::IdentityCertificate {
            file: "aws.pem".into(),
            serial: "b64b".into(),
            expires_at: Some(to_wire(Timestamp::from_unix_millis(
                NOW.as_unix_millis() + seconds * 1_000,
            ))),
        };
        let check = v1::IdentityCheck {
            accounts: vec!["123456789012".into()],
            regions: vec![],
            certificates: ends.iter().map(certificate).collect(),
        };
        status(|s| s.identity_check = Some(check))
    };
    assert_eq!(with(&[31 * DAY, 3_000 * DAY]), []);
    assert_eq!(with(&[3_000 * DAY, 29 * DAY]), [("identity", Level::Warning)]);
    assert_eq!(with(&[3_000 * DAY, 0, 29 * DAY]), [("identity", Level::Problem)]);
    assert_eq!(with(&[]), [("identity", Level::Problem)]);
}
