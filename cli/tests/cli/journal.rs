//! What the autoscaler's journal tells: `plan --at`, and the load of `simulate --journal`.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use stoker_core::fleet::execute::{Executed, Finding, Outcome};
use stoker_core::fleet::journal::{Line, Record};
use stoker_core::fleet::ledger::{Failure, Mode};
use stoker_core::fleet::{
    Cap, FleetSpec, Memory, Policy, PoolSnapshot, Queue, Reading, Snapshot, Waiting,
};
use stoker_core::ids::{ClassName, Epoch, MachineId, ModelName, PoolName};
use stoker_core::time::Timestamp;

use crate::planning::{FLEET, SPOT, file, golden};
use crate::process::stoker;

/// The plan that is asked about: 2026-11-26T03:11:50Z.
const PLANNED: Timestamp = Timestamp::from_unix_millis(1_795_662_710_000);

fn policy() -> Policy {
    let spec: FleetSpec = stoker_runtime::config::parse_toml(FLEET, "fleet.toml").unwrap();
    Policy::of(&spec.check().unwrap())
}

/// A queue as an autoscaler sees it, of which so many wait.
fn snapshot(at: Timestamp, queue: Queue, waiting: u64) -> Snapshot {
    let age = Duration::from_secs(20);
    let queue = Queue { waiting: vec![Waiting { age, jobs: waiting }], ..queue };
    let pool = PoolSnapshot {
        queues: Reading::Known { at, value: vec![queue] },
        instances: Reading::Known { at, value: Vec::new() },
        markets: std::collections::BTreeMap::new(),
    };
    Snapshot { pools: [(PoolName::new("default").unwrap(), pool)].into() }
}

fn queue() -> Queue {
    Queue::new(ClassName::new("standard").unwrap(), ModelName::new("echo").unwrap())
}

/// What the planner said at a time when so many jobs waited.
fn planned(at: Timestamp, waiting: u64) -> Line {
    let snapshot = snapshot(at, queue(), waiting);
    let planned = stoker_core::fleet::plan(&policy(), &snapshot, Memory::default(), at);
    Line::planned(at, Epoch::new(3), &snapshot, &planned)
}

/// Two plans, and what followed the first of them: a cap, and a launch that was refused.
fn story() -> Vec<Line> {
    let after = |seconds| PLANNED.after(Duration::from_secs(seconds));
    let capped = Finding::Capped { cap: Cap::Instances(3), wanted: 9, allowed: 3 };
    let executed = Box::new(Executed { findings: vec![capped], ..Executed::default() });
    let refused = Outcome::Refused {
        machine: MachineId::from_bytes([7; 16]),
        class: Failure::Capacity,
        why: "none left in zone a".to_owned(),
    };
    let line = |at, record| Line { at, epoch: Epoch::new(3), record };
    vec![
        planned(PLANNED, 40),
        line(after(1), Record::Executed { mode: Mode::Run, executed, committed: true }),
        line(after(4), Record::Outcomes { outcomes: vec![refused] }),
        planned(after(15), 2),
    ]
}

fn journal(folder: &Path, date: &str, lines: &[Line]) {
    let lines = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n");
    fs::write(folder.join(format!("journal-{date}.jsonl")), lines.collect::<String>()).unwrap();
}

#[tokio::test]
async fn a_plan_of_the_past_is_told_with_what_followed() {
    let folder = tempfile::tempdir().unwrap();
    journal(folder.path(), "2026-11-26", &story());
    let path = folder.path().to_str().unwrap();
    let at = |time| ["plan", "--at", time, "--journal", path];
    // The second plan came later, and is not told.
    let run = stoker(&at("2026-11-26T03:12:00Z")).await.expect(0);
    golden("plan-at.txt", &run.out());

    let run = stoker(&[&at("2026-11-26T03:12:00Z")[..], &["-o", "json"]].concat()).await.expect(0);
    let document = run.json();
    assert_eq!(document["pools"][0]["actions"][0]["action"], "launch");
    let followed = document["followed"].as_array().unwrap();
    assert_eq!(followed.len(), 2, "{document}");
    assert_eq!(followed[0]["at"], "2026-11-26T03:11:51.000Z");

    let run = stoker(&at("2026-11-26T03:12:05Z")).await.expect(0);
    assert!(run.out().contains("Nothing was done about it by then."), "{}", run.out());
}

#[tokio::test]
async fn a_time_of_which_the_journal_knows_nothing_is_said_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    journal(folder.path(), "2026-11-26", &story());
    let path = folder.path().to_str().unwrap();
    let run = stoker(&["plan", "--at", "2026-11-26T03:00:00Z", "--journal", path]).await.expect(1);
    assert!(run.err.contains("has no plan before 2026-11-26T03:00:00.000Z"), "{}", run.err);
    let run = stoker(&["plan", "--at", "noon", "--journal", path]).await.expect(2);
    assert!(run.err.contains("write it as 2026-11-26T10:15:00Z"), "{}", run.err);
    let run = stoker(&["plan", "--at", "10m", "--journal", "/no/such/folder"]).await.expect(2);
    assert!(run.err.contains("/no/such/folder") && run.err.contains("--journal"), "{}", run.err);
    let run = stoker(&["plan", "--journal", path]).await.expect(2);
    assert!(run.err.contains("--at"), "{}", run.err);
}

/// A look each 15 s of the last two hours, between which a job came and one of 30 s ended.
fn load() -> Vec<Line> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = Timestamp::from_unix_millis(0).after(now);
    let look = |n: u32| {
        let at = now.before(Duration::from_secs(15) * (480 - n));
        let ended = u64::from(n);
        let queue = Queue {
            arrived: ended,
            started: ended,
            finished: ended,
            service_seconds: 30.0 * f64::from(n),
            service_squares: 900.0 * f64::from(n),
            ..queue()
        };
        let snapshot = snapshot(at, queue, 0);
        let planned = stoker_core::fleet::plan(&policy(), &snapshot, Memory::default(), at);
        Line::planned(at, Epoch::new(3), &snapshot, &planned)
    };
    (0..480).map(look).collect()
}

#[tokio::test]
async fn the_load_of_a_journal_is_met_by_any_policy_and_offerings() {
    let folder = tempfile::tempdir().unwrap();
    let lines = load();
    // The day of the last line; those of the first may be the day before, which is in the same file.
    journal(folder.path(), "9999-01-01", &lines);
    let fleet = file(folder.path(), "fleet.toml", &format!("{FLEET}{SPOT}"));
    let path = folder.path().to_str().unwrap();
    let arguments = [
        "simulate",
        "--journal",
        path,
        "--since",
        "1d",
        "--fleet",
        fleet.to_str().unwrap(),
        "--policy",
        "keda-queue-length:target=2,min=1",
        "-o",
        "json",
    ];
    let document = stoker(&arguments).await.expect(0).json();
    // The first look has nothing to be compared with.
    assert_eq!(document["workload"]["jobs"], 479, "{document}");
    assert_eq!(document["workload"]["mean_service_seconds"], 30.0);
    let ways = document["ways"].as_array().unwrap();
    let names: Vec<&str> = ways.iter().filter_map(|way| way["name"].as_str()).collect();
    assert!(names.contains(&"Stoker") && names.contains(&"Stoker, spot only"), "{names:?}");
    assert!(names.contains(&"KEDA queue length 2.0, min 1"), "{names:?}");
    // The journal's own plans launched nothing that ever came; what is simulated does the work.
    assert!(ways[0]["by_capacity"]["spot"]["gpu_hours"].as_f64().unwrap() > 1.0, "{document}");

    let run = stoker(&["simulate", "--journal", path, "--since", "1s"]).await.expect(1);
    assert!(run.err.contains("has no jobs of that time"), "{}", run.err);
}
