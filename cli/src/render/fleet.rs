//! The state of the fleet on one screen.

use std::collections::BTreeMap;

use serde::Serialize;
use stoker_core::time::Timestamp;
use stoker_proto::v1;

use super::queue::{self, QueueDocument};
use super::state::job_state;
use super::table::pairs;
use super::text::{count, grouped};
use super::time::{duration_from_wire, rfc3339_from_wire, span};
use super::worker::{self, WorkerDocument};

/// One look at everything.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) fleet: v1::FleetStatusResponse,
    pub(crate) queues: Vec<v1::Queue>,
    pub(crate) workers: Vec<v1::Worker>,
}

/// The fleet as a document. Fields are only ever added.
#[derive(Debug, Serialize)]
pub(crate) struct FleetDocument<'a> {
    fleet: &'a str,
    version: &'a str,
    store: &'a str,
    broker: &'a str,
    broker_problem: Option<&'a str>,
    jobs: BTreeMap<String, u64>,
    dead_letters: u64,
    outbox: u64,
    workers_ready: u32,
    workers_total: u32,
    uptime_seconds: Option<f64>,
    observed_at: Option<String>,
    queues: Vec<QueueDocument<'a>>,
    workers: Vec<WorkerDocument<'a>>,
}

/// The fleet for programs.
pub(crate) fn document(snapshot: &Snapshot) -> FleetDocument<'_> {
    let fleet = &snapshot.fleet;
    FleetDocument {
        fleet: &fleet.fleet,
        version: &fleet.version,
        store: &fleet.store,
        broker: &fleet.broker,
        broker_problem: (!fleet.broker_problem.is_empty()).then_some(&fleet.broker_problem),
        jobs: fleet.jobs.iter().map(|count| (job_state(count.state), count.jobs)).collect(),
        dead_letters: fleet.dead_letters,
        outbox: fleet.outbox,
        workers_ready: fleet.workers_ready,
        workers_total: fleet.workers_total,
        uptime_seconds: duration_from_wire(fleet.uptime.as_ref()).map(|up| up.as_secs_f64()),
        observed_at: rfc3339_from_wire(fleet.observed_at.as_ref()),
        queues: snapshot.queues.iter().map(queue::document).collect(),
        workers: snapshot.workers.iter().map(worker::document).collect(),
    }
}

/// The fleet for people.
pub(crate) fn page(snapshot: &Snapshot, server: &str, now: Timestamp) -> String {
    let mut text = summary(&snapshot.fleet, server);
    if !snapshot.queues.is_empty() {
        text.push('\n');
        text.push_str(&queue::rows(&snapshot.queues));
    }
    if !snapshot.workers.is_empty() {
        text.push('\n');
        text.push_str(&worker::rows(&snapshot.workers, now));
    }
    text
}

fn summary(fleet: &v1::FleetStatusResponse, server: &str) -> String {
    let jobs: Vec<String> = fleet
        .jobs
        .iter()
        .filter(|count| count.jobs > 0)
        .map(|count| format!("{} {}", grouped(count.jobs), job_state(count.state)))
        .collect();
    let jobs = if jobs.is_empty() { "none".to_owned() } else { jobs.join(", ") };
    let broker = if fleet.broker_problem.is_empty() {
        format!("{}, healthy", fleet.broker)
    } else {
        format!("{}, PROBLEM: {}", fleet.broker, fleet.broker_problem)
    };
    let up = duration_from_wire(fleet.uptime.as_ref()).map(span).unwrap_or_default();
    let mut lines = vec![
        ("fleet", format!("{} at {server}, version {}, up {up}", fleet.fleet, fleet.version)),
        ("store", fleet.store.clone()),
        ("broker", broker),
        ("jobs", jobs),
        ("workers", format!("{} ready of {}", fleet.workers_ready, fleet.workers_total)),
    ];
    if fleet.outbox > 0 {
        lines.push(("outbox", format!("{} not confirmed yet", grouped(fleet.outbox))));
    }
    if fleet.dead_letters > 0 {
        let letters = count(fleet.dead_letters, "dead letter");
        lines.push(("attention", format!("{letters}; see `stoker dead-letters list`")));
    }
    pairs(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_needs_attention() {
        let fleet = v1::FleetStatusResponse {
            fleet: "dev".into(),
            version: "0.1.0".into(),
            store: "sqlite".into(),
            broker: "rabbitmq 3.10.8".into(),
            broker_problem: "connection refused".into(),
            jobs: vec![
                v1::StateCount { state: v1::JobState::Queued as i32, jobs: 1_200 },
                v1::StateCount { state: v1::JobState::Failed as i32, jobs: 0 },
            ],
            workers_ready: 1,
            workers_total: 2,
            dead_letters: 1,
            uptime: Some(stoker_proto::well_known::Duration { seconds: 75, nanos: 0 }),
            ..v1::FleetStatusResponse::default()
        };
        let snapshot = Snapshot { fleet, queues: vec![], workers: vec![] };
        assert_eq!(
            page(&snapshot, "http://h:1", Timestamp::from_unix_millis(0)),
            "fleet:      dev at http://h:1, version 0.1.0, up 1m15s\n\
             store:      sqlite\n\
             broker:     rabbitmq 3.10.8, PROBLEM: connection refused\n\
             jobs:       1,200 queued\n\
             workers:    1 ready of 2\n\
             attention:  1 dead letter; see `stoker dead-letters list`\n"
        );
        let value = serde_json::to_value(document(&snapshot)).unwrap();
        assert_eq!(value["jobs"]["queued"], 1_200);
        assert_eq!(value["broker_problem"], "connection refused");
    }
}
