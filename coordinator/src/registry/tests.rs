use stoker_core::departure::Cause;
use stoker_core::fleet::Notice;
use stoker_core::ids::{Attempt, JobId, ModelName, PoolName};

use super::*;
use crate::registry::{Place, Seat};

const TTL: Duration = Duration::from_secs(30);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(seconds * 1_000)
}

fn worker(number: u8) -> WorkerId {
    WorkerId::from_bytes([number; 16])
}

fn registration(number: u8, slots: u32) -> Registration {
    Registration {
        id: worker(number),
        pool: PoolName::new("cpu").unwrap(),
        models: vec![ModelName::new("mini").unwrap()],
        slots,
        version: "1".to_owned(),
        host: "h".to_owned(),
        pid: 1,
        device: "cpu".to_owned(),
        metrics_address: String::new(),
        instance: None,
    }
}

fn report(state: WorkerState) -> Report {
    Report {
        state,
        busy_slots: 0,
        utilization: 0.0,
        resident_models: Vec::new(),
        drain_cause: None,
        notice: None,
        residency: None,
        remaining: None,
    }
}

fn lane(model: &str) -> Lane {
    Lane { pool: PoolName::new("cpu").unwrap(), model: ModelName::new(model).unwrap() }
}

fn state_of(table: &mut Table, number: u8, now: Timestamp) -> WorkerState {
    let workers = table.list(now);
    workers.iter().find(|view| view.registration.id == worker(number)).expect("is known").state
}

fn stop(number: u32) -> Command {
    let attempt = Attempt::new(number).expect("above 0");
    Command::StopAttempt { job: JobId::from_bytes([9; 16]), attempt, reason: "" }
}

#[test]
fn only_ready_workers_of_the_queue_have_slots() {
    let mut table = Table::new(TTL, at(0));
    let _one = table.register(registration(1, 4), at(0)).unwrap();
    let _two = table.register(registration(2, 8), at(0)).unwrap();
    assert_eq!(table.slots(&lane("mini"), at(0)), 0, "both are starting");
    assert_eq!((table.starting(&lane("mini"), at(0)), table.starting(&lane("x"), at(0))), (2, 0));
    let gained = Heard::Known { gained_capacity: true };
    assert_eq!(table.heard(worker(1), Some(report(WorkerState::Ready)), at(1)), gained);
    assert_eq!(table.heard(worker(2), Some(report(WorkerState::Ready)), at(1)), gained);
    assert_eq!(table.slots(&lane("mini"), at(1)), 12);
    assert_eq!(table.slots(&lane("other"), at(1)), 0);
    assert_eq!(
        table.heard(worker(1), Some(report(WorkerState::Ready)), at(2)),
        Heard::Known { gained_capacity: false }
    );
    table.cordon(worker(2), Cordon::Set, at(2)).unwrap();
    assert_eq!(table.slots(&lane("mini"), at(2)), 4);
    assert_eq!(
        table.heard(worker(2), Some(report(WorkerState::Ready)), at(2)),
        Heard::Known { gained_capacity: false },
        "a heartbeat that crossed the cordon does not lift it"
    );
    table.drain(worker(1), None, at(2)).unwrap();
    assert_eq!(table.slots(&lane("mini"), at(2)), 0);
}

#[test]
fn silence_makes_a_worker_lost_and_a_call_brings_it_back() {
    let mut table = Table::new(TTL, at(0));
    let _stream = table.register(registration(1, 4), at(0)).unwrap();
    table.heard(worker(1), Some(report(WorkerState::Ready)), at(0));
    assert_eq!(state_of(&mut table, 1, at(30)), WorkerState::Ready);
    assert_eq!(state_of(&mut table, 1, at(31)), WorkerState::Lost);
    assert_eq!(table.slots(&lane("mini"), at(31)), 0);
    assert_eq!(table.heard(worker(1), None, at(40)), Heard::Known { gained_capacity: true });
    assert_eq!(table.slots(&lane("mini"), at(40)), 4);
    assert!(table.list(at(40 + 601)).is_empty(), "forgotten after ten minutes");
}

#[test]
fn a_broken_stream_makes_a_worker_unknown_until_it_registers_again() {
    let mut table = Table::new(TTL, at(0));
    let stream = table.register(registration(1, 4), at(0)).unwrap();
    table.heard(worker(1), Some(report(WorkerState::Ready)), at(0));
    assert!(table.stream_ended(worker(1), stream.id));
    assert!(!table.stream_ended(worker(1), stream.id), "only once");
    assert_eq!(state_of(&mut table, 1, at(1)), WorkerState::Lost);
    assert_eq!(table.heard(worker(1), Some(report(WorkerState::Ready)), at(1)), Heard::Unknown);
    let _again = table.register(registration(1, 4), at(2)).unwrap();
    assert_eq!(table.slots(&lane("mini"), at(2)), 4, "it was ready when the stream broke");
}

#[test]
fn a_newer_stream_takes_the_place_of_the_older() {
    let mut table = Table::new(TTL, at(0));
    let mut old = table.register(registration(1, 4), at(0)).unwrap();
    let mut new = table.register(registration(1, 4), at(1)).unwrap();
    assert_eq!(old.commands.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    assert!(!table.stream_ended(worker(1), old.id), "its end says nothing about the worker");
    table.try_command(worker(1), stop(1));
    assert_eq!(new.commands.try_recv(), Ok(stop(1)));
}

#[test]
fn commands_outlive_the_stream_that_could_not_carry_them() {
    let mut table = Table::new(TTL, at(0));
    let old = table.register(registration(1, 4), at(0)).unwrap();
    for number in 1..=u32::try_from(COMMAND_BACKLOG).unwrap() + 10 {
        table.try_command(worker(1), stop(number));
    }
    let view = table.cordon(worker(1), Cordon::Set, at(0)).unwrap();
    assert_eq!(view.state, WorkerState::Lost, "its stream takes no commands");
    drop(old);
    let within = Some(Duration::from_secs(5));
    table.drain(worker(1), within, at(0)).unwrap();
    let mut new = table.register(registration(1, 4), at(1)).unwrap();
    assert_eq!(new.commands.try_recv(), Ok(Command::Cordon(Cordon::Set)));
    assert_eq!(new.commands.try_recv(), Ok(Command::Drain { within }));
}

#[test]
fn the_number_of_workers_is_bounded_and_lost_ones_make_room() {
    let mut table = Table::new(TTL, at(0));
    let id = |number: usize| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        WorkerId::from_bytes(bytes)
    };
    let mut streams = Vec::new();
    for number in 0..MAX_WORKERS {
        let registration = Registration { id: id(number), ..registration(0, 1) };
        streams.push(table.register(registration, at(0)).unwrap());
    }
    let one_more = Registration { id: id(MAX_WORKERS), ..registration(0, 1) };
    assert_eq!(table.register(one_more.clone(), at(1)).map(|_| ()), Err(RegistryFull));
    assert!(table.register(Registration { id: id(0), ..one_more.clone() }, at(1)).is_ok());
    assert!(table.register(one_more, at(601)).is_ok(), "the silent ones were forgotten");
}

fn elsewhere(number: u8, state: WorkerState, seen: Timestamp) -> WorkerView {
    WorkerView {
        registration: registration(number, 8),
        state,
        busy_slots: 0,
        utilization: 0.0,
        resident_models: Vec::new(),
        drain_cause: None,
        notice: None,
        residency: None,
        remaining: None,
        idle_since: None,
        registered_at: at(0),
        last_seen_at: seen,
    }
}

#[test]
fn workers_of_other_coordinators_count_until_they_are_silent() {
    let mut table = Table::new(TTL, at(0));
    let _own = table.register(registration(1, 4), at(0)).unwrap();
    table.heard(worker(1), Some(report(WorkerState::Ready)), at(1));
    assert!(table.learn(vec![elsewhere(2, WorkerState::Ready, at(1))], at(1)));
    assert!(!table.learn(vec![elsewhere(2, WorkerState::Ready, at(2))], at(2)), "nothing new");
    assert_eq!(table.slots(&lane("mini"), at(2)), 12);
    assert_eq!(state_of(&mut table, 2, at(2)), WorkerState::Ready);
    table.heard(worker(1), None, at(33));
    assert_eq!(table.slots(&lane("mini"), at(33)), 4);
    assert_eq!(state_of(&mut table, 2, at(33)), WorkerState::Lost);
    assert_eq!(table.own(at(33)).len(), 1);
}

#[test]
fn a_worker_counts_where_its_stream_is() {
    let mut table = Table::new(TTL, at(0));
    let stream = table.register(registration(1, 8), at(0)).unwrap();
    table.heard(worker(1), Some(report(WorkerState::Ready)), at(1));
    table.learn(vec![elsewhere(1, WorkerState::Ready, at(1))], at(1));
    assert_eq!(table.slots(&lane("mini"), at(1)), 8, "once, though both tell of it");
    table.stream_ended(worker(1), stream.id);
    assert_eq!(table.slots(&lane("mini"), at(1)), 8);
    assert_eq!(state_of(&mut table, 1, at(1)), WorkerState::Ready, "it went over");
    assert_eq!(table.list(at(1)).len(), 1);
}

#[tokio::test]
async fn orders_that_came_through_another_coordinator_are_passed_on_once() {
    let mut table = Table::new(TTL, at(0));
    let mut stream = table.register(registration(1, 8), at(0)).unwrap();
    let orders = WorkerOrders { cordoned: true, drain: Some(None) };
    table.obey(worker(1), orders);
    table.obey(worker(1), orders);
    assert_eq!(stream.commands.recv().await, Some(Command::Cordon(Cordon::Set)));
    assert_eq!(stream.commands.recv().await, Some(Command::Drain { within: None }));
    assert!(stream.commands.try_recv().is_err());
    assert_eq!(state_of(&mut table, 1, at(0)), WorkerState::Draining);
}

#[test]
fn a_worker_that_goes_says_why_and_until_then_its_operator_does() {
    let mut table = Table::new(TTL, at(0));
    let _stream = table.register(registration(1, 8), at(0)).unwrap();
    let why = |table: &mut Table| {
        let view = table.own(at(1)).remove(0);
        (view.drain_cause, view.notice)
    };
    assert_eq!(why(&mut table), (None, None));
    table.drain(worker(1), None, at(1));
    assert_eq!(why(&mut table), (Some(Cause::Operator), None), "it has not heard of it yet");
    let notice = Some(Notice::Interruption { lost_at: at(100) });
    let drain_cause = Some(Cause::Interruption);
    let told = Report { drain_cause, notice, ..report(WorkerState::Draining) };
    table.heard(worker(1), Some(told), at(1));
    assert_eq!(why(&mut table), (drain_cause, notice));
}

#[test]
fn a_worker_is_idle_once_it_says_so_and_until_it_is_given_a_job() {
    let mut table = Table::new(TTL, at(0));
    let _stream = table.register(registration(1, 8), at(1)).unwrap();
    let idle = |table: &mut Table| table.own(at(20)).remove(0).idle_since;
    assert_eq!(idle(&mut table), None, "it may hold jobs from before");
    for seconds in [2, 3] {
        table.heard(worker(1), Some(report(WorkerState::Ready)), at(seconds));
        assert_eq!(idle(&mut table), Some(at(2)), "since it said so first");
    }
    table.heard(worker(1), None, at(4));
    let _again = table.register(registration(1, 8), at(4)).unwrap();
    assert_eq!(idle(&mut table), Some(at(2)), "a new stream changes nothing");
    table.granted(worker(1));
    assert_eq!(idle(&mut table), None);
    let busy = Report { busy_slots: 1, ..report(WorkerState::Ready) };
    table.heard(worker(1), Some(busy), at(5));
    assert_eq!(idle(&mut table), None);
    table.heard(worker(1), Some(report(WorkerState::Ready)), at(6));
    assert_eq!(idle(&mut table), Some(at(6)));
}

#[test]
fn the_list_is_complete_since_all_were_listened_to_without_a_break() {
    let mut table = Table::new(TTL, at(5));
    assert_eq!(table.complete_since(at(1_000)), at(5), "there are no other coordinators");
    table.learn(Vec::new(), at(7));
    table.learn(Vec::new(), at(37));
    assert_eq!(table.complete_since(at(67)), at(7));
    assert_eq!(table.complete_since(at(68)), at(68), "the others are not heard any more");
    table.learn(Vec::new(), at(70));
    assert_eq!(table.complete_since(at(80)), at(70));
}

#[test]
fn a_worker_whose_machine_is_ended_is_told_once_and_again_on_each_new_stream() {
    let mut table = Table::new(TTL, at(0));
    let mut stream = table.register(registration(1, 8), at(0)).unwrap();
    let hour = Some(Duration::from_hours(1));
    table.drain(worker(1), hour, at(1)).unwrap();
    table.send_away(worker(1));
    table.send_away(worker(1));
    table.send_away(worker(2));
    assert_eq!(stream.commands.try_recv(), Ok(Command::Drain { within: hour }));
    assert_eq!(stream.commands.try_recv(), Ok(Command::Drain { within: None }), "sooner");
    assert!(stream.commands.try_recv().is_err());
    let mut stream = table.register(registration(1, 8), at(2)).unwrap();
    assert_eq!(stream.commands.try_recv(), Ok(Command::Drain { within: None }));
    assert!(table.is_sent_away(worker(1)) && !table.is_sent_away(worker(2)));
}

#[test]
fn slots_count_for_models_that_are_in_memory() {
    let mut table = Table::new(TTL, at(0));
    let two = vec![ModelName::new("mini").unwrap(), ModelName::new("large").unwrap()];
    let registration = Registration { models: two, ..registration(1, 4) };
    let mut stream = table.register(registration, at(0)).unwrap();
    let holding = |names: &[&str], shared| {
        let seat = |name: &&str| Seat {
            model: ModelName::new(name).unwrap(),
            place: Place::Resident,
            memory_bytes: 1,
            measured: true,
            why: "busy".to_owned(),
        };
        let models = names.iter().map(seat).collect();
        let residency = Some(Residency { budget_bytes: 1, shared, models });
        Some(Report { residency, ..report(WorkerState::Ready) })
    };
    let gained = |heard| heard == Heard::Known { gained_capacity: true };
    assert!(gained(table.heard(worker(1), holding(&["mini"], true), at(1))));
    assert_eq!((table.slots(&lane("mini"), at(1)), table.slots(&lane("large"), at(1))), (4, 0));
    assert_eq!(
        (table.starting(&lane("mini"), at(1)), table.starting(&lane("large"), at(1))),
        (0, 1)
    );
    assert!(!gained(table.heard(worker(1), holding(&["mini"], true), at(2))), "nothing is new");
    assert!(gained(table.heard(worker(1), holding(&["large"], true), at(3))), "another model is");
    assert_eq!((table.slots(&lane("mini"), at(3)), table.slots(&lane("large"), at(3))), (0, 4));

    assert_eq!(table.sharing(), [worker(1)]);
    for _ in 0..COMMAND_BACKLOG {
        table.tell_needs(worker(1), Vec::new());
    }
    table.try_command(worker(1), stop(1));
    let mut told = 0;
    while stream.commands.try_recv().unwrap() == Command::Needs(Vec::new()) {
        told += 1;
    }
    assert_eq!(told, COMMAND_BACKLOG / 2, "there is room left for what is not told again");
    table.heard(worker(1), holding(&["mini", "large"], false), at(4));
    assert!(table.sharing().is_empty(), "it has all of its models");
}
