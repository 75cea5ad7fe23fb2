//! A memory that was stored before classes were told apart still counts.

use toml::{Table, Value};

use super::*;

/// As a version without classes wrote it.
fn without_classes(memory: &Memory) -> Table {
    let Value::Table(mut stored) = Value::try_from(memory).unwrap() else { panic!() };
    let pools = stored["pools"].as_table_mut().unwrap();
    for (_, pool) in pools.iter_mut() {
        let demand = pool["demand"].as_table_mut().unwrap();
        assert!(demand.remove("classes").is_some() && demand.remove("seen").is_some());
        assert!(demand["margin"].as_table_mut().unwrap().remove("lent").is_some());
        let counters = pool["counters"].as_table_mut().unwrap();
        assert!(counters.remove("classes").is_some());
        for total in ["arrived", "started", "started_late"] {
            counters.insert(total.to_owned(), Value::Integer(59));
        }
    }
    stored
}

#[test]
fn a_memory_without_classes_is_taken_over_with_what_it_learned() {
    let policy = policy();
    let memory = served(&policy, 4);
    let old: Memory = without_classes(&memory).try_into().unwrap();
    let look = |memory: Memory, second: i64| {
        let jobs = 59 * 4;
        let queue = Queue { started: jobs, finished: jobs, ..queue("standard", vec![], jobs) };
        let worker = Instance { seen_at: at(second), ..instance(99, CapacityType::Spot, ready(1)) };
        let planned =
            plan(&policy, &snapshot(at(second), vec![queue], vec![worker]), memory, at(second));
        match &planned.report.pools[&pool_name()] {
            PoolReport::Planned(findings) => (findings.as_ref().clone(), planned.memory),
            PoolReport::Held(hold) => panic!("{hold}"),
        }
    };
    let (before, _) = look(memory, 0);
    let (after, old) = look(old, 0);
    assert!(before.load > 0.1 && (before.load - after.load).abs() < 0.05, "{before:?} {after:?}");
    assert!(after.notes.contains(&Note::CounterReset), "what came meanwhile is not known");
    assert_eq!(after.classes.len(), 1);
    let (next, _) = look(old, 15);
    assert!(!next.notes.contains(&Note::CounterReset));
    assert!((next.margin - after.margin).abs() < 0.1, "the margin goes on: {next:?}");
}
