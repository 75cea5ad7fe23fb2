//! The ledger's machines, and the operators' switch.

use std::time::Duration;

use stoker_core::fleet::CapacityType;
use stoker_core::fleet::ledger::{Entry, Order, State as MachineState, Times};
use stoker_core::ids::{Epoch, InstanceName, MachineId, OfferingName, PoolName, WorkerId};
use stoker_core::money::{HourlyPrice, Money};
use stoker_core::time::Timestamp;
use stoker_proto::v1;

use crate::fake::{Fake, Ledger, NOW, State};
use crate::process::{command, stoker_at};

const NOW_MS: Timestamp = Timestamp::from_unix_millis(NOW * 1_000);

pub(crate) fn machine(number: u8, minutes: u64, state: MachineState) -> Entry {
    let order = Order {
        pool: PoolName::new("default").unwrap(),
        offering: OfferingName::new("g5.spot").unwrap(),
        provider: "memory".into(),
        region: "r".into(),
        zone: "a".into(),
        instance_type: "g5".into(),
        capacity: CapacityType::Spot,
        price: HourlyPrice::new(Money::from_micros(2_000_000)),
        template: "lt-1".into(),
        reason: "load".into(),
    };
    let began = NOW_MS.before(Duration::from_mins(minutes));
    let times = Times {
        intended: began,
        requested: Some(began),
        launched: Some(began),
        ..Times::default()
    };
    let id = MachineId::from_bytes([number; 16]);
    Entry { id, version: 1, epoch: Epoch::new(1), order, state, times }
}

pub(crate) fn ready(number: u8, minutes: u64) -> Entry {
    let instance = InstanceName::new(&format!("i-{number}")).unwrap();
    let worker = WorkerId::from_bytes([number; 16]);
    machine(number, minutes, MachineState::Ready { instance, worker })
}

fn ledger(entries: Vec<Entry>) -> State {
    let budget = v1::FleetBudget { per_hour_micros: Some(9_000_000), ..v1::FleetBudget::default() };
    State {
        ledger: Ledger { entries, budget: Some(budget), ..Ledger::default() },
        ..State::default()
    }
}

#[tokio::test]
async fn the_fleet_is_shown_from_all_pages_of_the_ledger() {
    let fake = Fake::start(ledger((1..=3).map(|number| ready(number, 60)).collect())).await;
    for arguments in [&["fleet"][..], &["fleet", "status"]] {
        let run = stoker_at(&fake.url, arguments).await.expect(0);
        assert!(run.out().contains("machines:    3 machines: 3 ready"), "{}", run.out());
        assert!(run.out().contains("$6.00 of $9.00 an hour"), "{}", run.out());
        assert!(run.out().contains("i-3"), "{}", run.out());
    }
    let run = stoker_at(&fake.url, &["fleet", "-o", "json"]).await.expect(0);
    assert_eq!(run.json()["machines"][2]["instance"], "i-3");
    assert_eq!(run.json()["per_hour"], 6.0);
}

#[tokio::test]
async fn the_switch_is_set_with_who_and_why() {
    let fake = Fake::start(ledger(vec![ready(1, 60)])).await;
    let set = |arguments: &'static [&'static str]| {
        let url = fake.url.clone();
        async move { stoker_at(&url, arguments).await }
    };
    let run = set(&["fleet", "freeze", "--why", "odd bill", "--by", "ann"]).await.expect(0);
    assert!(run.out().starts_with("switch: freeze, by ann "), "{}", run.out());
    set(&["fleet", "thaw", "--why", "all is well", "--by", "ann"]).await.expect(0);
    let run = set(&["fleet", "panic", "--why", "keys", "--by", "bob", "--yes", "-o", "json"]).await;
    assert_eq!(run.expect(0).json()["mode"], "panic");
    let switches = fake.with(|state| {
        let asked = state.requests.iter().filter(|request| request.starts_with("switch"));
        asked.cloned().collect::<Vec<_>>()
    });
    assert_eq!(
        switches,
        ["switch 2 ann: odd bill", "switch 1 ann: all is well", "switch 4 bob: keys"]
    );
}

#[tokio::test]
async fn nothing_ends_without_being_told_to_twice() {
    let fake = Fake::start(ledger(vec![ready(1, 60)])).await;
    for verb in ["panic", "drain"] {
        let run = stoker_at(&fake.url, &["fleet", verb, "--why", "x", "--by", "ann"]).await;
        let run = run.expect(2);
        assert!(run.err.contains("1 machine in the ledger"), "{}", run.err);
        assert!(run.err.contains("add --yes"), "{}", run.err);
    }
    let run = stoker_at(&fake.url, &["fleet", "panic", "--yes", "--by", "ann"]).await.expect(2);
    assert!(run.err.contains("--why"), "{}", run.err);
    let run = stoker_at(&fake.url, &["fleet", "freeze", "--why", "x"]).await.expect(2);
    assert!(run.err.contains("--by NAME"), "{}", run.err);
    fake.with(|state| {
        assert!(!state.requests.iter().any(|request| request.starts_with("switch")));
    });
}

#[tokio::test]
async fn operators_show_their_token_to_calls_of_their_own_only() {
    const TOKEN: &str = "0123456789abcdef-operator";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let fake = Fake::start(ledger(Vec::new())).await;
    let freeze = ["--server", &fake.url, "fleet", "freeze", "--why", "drill", "--by", "ann"];
    let mut by_variable = command(&freeze);
    assert!(
        by_variable.env("STOKER_OPERATOR_TOKEN", TOKEN).output().await.unwrap().status.success()
    );
    let mut by_file = command(&freeze);
    by_file.arg("--operator-token-file").arg(&file);
    assert!(by_file.output().await.unwrap().status.success());
    let mut jobs = command(&["--server", &fake.url, "list"]);
    jobs.env("STOKER_OPERATOR_TOKEN", TOKEN);
    assert!(jobs.output().await.unwrap().status.success());
    fake.with(|state| {
        assert_eq!(state.tokens, [Some(TOKEN.to_owned()), Some(TOKEN.to_owned()), None]);
    });
    let mut short = command(&freeze);
    let run = short.env("STOKER_OPERATOR_TOKEN", "hunter2").output().await.unwrap();
    let told = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(2), "{told}");
    assert!(told.contains("operator token must have") && !told.contains("hunter2"), "{told}");
}

#[tokio::test]
async fn who_it_was_is_the_user_unless_said() {
    let fake = Fake::start(ledger(Vec::new())).await;
    let mut freeze = command(&["--server", &fake.url, "fleet", "freeze", "--why", "drill"]);
    let run = freeze.env("USER", "carol").output().await.unwrap();
    assert!(run.status.success(), "{run:?}");
    fake.with(|state| assert_eq!(state.requests, ["switch 2 carol: drill"]));
}

#[tokio::test]
async fn a_machine_is_cordoned_by_its_worker() {
    let fake = Fake::start(ledger(vec![
        ready(1, 60),
        machine(2, 1, MachineState::Requested { calls: 1 }),
    ]))
    .await;
    let worker = WorkerId::from_bytes([1; 16]);
    stoker_at(&fake.url, &["fleet", "cordon", "i-1"]).await.expect(0);
    let id = MachineId::from_bytes([1; 16]).to_string();
    stoker_at(&fake.url, &["fleet", "cordon", &id, "--undo"]).await.expect(0);
    fake.with(|state| {
        let asked: Vec<_> =
            state.requests.iter().filter(|request| request.starts_with("cordon")).collect();
        assert_eq!(asked, [&format!("cordon {worker} true"), &format!("cordon {worker} false")]);
    });
    let run = stoker_at(&fake.url, &["fleet", "cordon", "i-9"]).await.expect(3);
    assert!(run.err.contains("no machine `i-9` in the ledger"), "{}", run.err);
    let id = MachineId::from_bytes([2; 16]).to_string();
    let run = stoker_at(&fake.url, &["fleet", "cordon", &id]).await.expect(1);
    assert!(run.err.contains("has no worker: it is requested"), "{}", run.err);
}

#[tokio::test]
async fn one_machine_is_ended_after_a_confirmation() {
    let requested = machine(2, 1, MachineState::Requested { calls: 1 });
    let fake = Fake::start(ledger(vec![ready(1, 60), requested])).await;
    let end = |arguments: &'static [&'static str]| {
        let url = fake.url.clone();
        let said = ["--why", "slow disk", "--by", "ann"];
        async move { stoker_at(&url, &[&["fleet", "terminate"], arguments, &said[..]].concat()).await }
    };
    let run = end(&["i-1"]).await.expect(2);
    assert!(
        run.err.contains("drain and end i-1, which is ready in the pool default"),
        "{}",
        run.err
    );
    assert!(run.err.contains("add --yes"), "{}", run.err);
    let run = end(&["i-9", "--yes"]).await.expect(3);
    assert!(run.err.contains("no machine `i-9` in the ledger"), "{}", run.err);
    let run = end(&["i-1", "--now", "--within", "1m", "--yes"]).await.expect(2);
    assert!(run.err.contains("cannot be used with"), "{}", run.err);

    let run = end(&["i-1", "--yes"]).await.expect(0);
    assert!(run.out().starts_with("i-1: draining ("), "{}", run.out());
    assert!(run.out().ends_with(": ordered by ann: slow disk\n"), "{}", run.out());
    let run = end(&["i-1", "--now", "--yes", "-o", "json"]).await.expect(0);
    assert_eq!(run.json()["state"], "terminating");
    let id = MachineId::from_bytes([2; 16]).to_string();
    let arguments = ["fleet", "terminate", &id, "--why", "x", "--by", "ann", "--yes"];
    let run = stoker_at(&fake.url, &arguments).await.expect(5);
    assert!(run.err.contains("cannot end the machine"), "{}", run.err);
    let first = MachineId::from_bytes([1; 16]);
    fake.with(|state| {
        let asked: Vec<_> =
            state.requests.iter().filter(|request| request.starts_with("end")).cloned().collect();
        let slow = "ann: slow disk";
        let expected = [
            format!("end {first} Some(600) {slow}"),
            format!("end {first} None {slow}"),
            format!("end {id} Some(600) ann: x"),
        ];
        assert_eq!(asked, expected);
    });
}
