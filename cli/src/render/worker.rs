//! Workers: rows and documents.

use serde::Serialize;
use stoker_core::time::Timestamp;
use stoker_proto::v1;

use super::state::worker_state;
use super::table::{Column, left, or_dash, right, table};
use super::time::{from_wire, rfc3339_from_wire, span};

/// A worker as a document. Fields are only ever added.
#[derive(Debug, Serialize)]
pub(crate) struct WorkerDocument<'a> {
    id: &'a str,
    state: String,
    pool: &'a str,
    models: &'a [String],
    resident_models: &'a [String],
    slots: u32,
    busy_slots: u32,
    utilization: f64,
    version: &'a str,
    host: &'a str,
    pid: u32,
    device: &'a str,
    metrics_address: Option<&'a str>,
    registered_at: Option<String>,
    last_seen_at: Option<String>,
}

/// A worker for programs.
pub(crate) fn document(worker: &v1::Worker) -> WorkerDocument<'_> {
    let metrics = worker.metrics_address.as_str();
    WorkerDocument {
        id: &worker.id,
        state: worker_state(worker.state),
        pool: &worker.pool,
        models: &worker.models,
        resident_models: &worker.resident_models,
        slots: worker.slots,
        busy_slots: worker.busy_slots,
        utilization: worker.utilization,
        version: &worker.version,
        host: &worker.host,
        pid: worker.pid,
        device: &worker.device,
        metrics_address: (!metrics.is_empty()).then_some(metrics),
        registered_at: rfc3339_from_wire(worker.registered_at.as_ref()),
        last_seen_at: rfc3339_from_wire(worker.last_seen_at.as_ref()),
    }
}

const COLUMNS: [Column; 9] = [
    left("ID"),
    left("STATE"),
    left("POOL"),
    left("MODELS"),
    right("SLOTS"),
    right("BUSY"),
    left("DEVICE"),
    left("HOST"),
    right("SEEN"),
];

/// A line for each worker.
pub(crate) fn rows(workers: &[v1::Worker], now: Timestamp) -> String {
    table(&COLUMNS, workers.iter().map(|worker| row(worker, now)))
}

fn row(worker: &v1::Worker, now: Timestamp) -> Vec<String> {
    let seen = from_wire(worker.last_seen_at.as_ref()).map(|seen| span(now.since(seen)));
    vec![
        worker.id.clone(),
        worker_state(worker.state),
        worker.pool.clone(),
        or_dash(worker.models.join(",")),
        format!("{}/{}", worker.busy_slots, worker.slots),
        format!("{:.0}%", worker.utilization * 100.0),
        or_dash(worker.device.clone()),
        format!("{}:{}", or_dash(worker.host.clone()), worker.pid),
        or_dash(seen.unwrap_or_default()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::time::to_wire;

    #[test]
    fn rows_show_load_and_where_it_runs() {
        let worker = v1::Worker {
            id: "w1".into(),
            pool: "default".into(),
            models: vec!["echo".into(), "mini".into()],
            state: v1::WorkerState::Ready as i32,
            slots: 4,
            busy_slots: 3,
            utilization: 0.876,
            host: "box".into(),
            pid: 42,
            device: "cpu".into(),
            last_seen_at: Some(to_wire(Timestamp::from_unix_millis(1_000))),
            ..v1::Worker::default()
        };
        assert_eq!(
            rows(&[worker], Timestamp::from_unix_millis(3_000)),
            "ID  STATE  POOL     MODELS     SLOTS  BUSY  DEVICE  HOST    SEEN\n\
             w1  ready  default  echo,mini    3/4   88%  cpu     box:42    2s\n"
        );
    }
}
