//! Workers: rows and documents.

use serde::Serialize;
use stoker_core::time::Timestamp;
use stoker_proto::v1;

use super::state::{cloud_notice, drain_cause, residency_state, worker_state};
use super::table::{Column, left, or_dash, right, table};
use super::time::{duration_from_wire, from_wire, rfc3339_from_wire, span};

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
    drain_cause: Option<String>,
    notice: Option<String>,
    lost_at: Option<String>,
    instance: Option<&'a str>,
    idle_since: Option<String>,
    remaining_seconds: Option<f64>,
    residency: Option<ResidencyDocument<'a>>,
}

/// What a worker has in memory.
#[derive(Debug, Serialize)]
struct ResidencyDocument<'a> {
    budget_bytes: u64,
    shared: bool,
    models: Vec<SeatDocument<'a>>,
}

/// One of its models.
#[derive(Debug, Serialize)]
struct SeatDocument<'a> {
    model: &'a str,
    state: String,
    memory_bytes: u64,
    measured: bool,
    why: &'a str,
}

/// A worker for programs.
pub(crate) fn document(worker: &v1::Worker) -> WorkerDocument<'_> {
    let (metrics, instance) = (worker.metrics_address.as_str(), worker.instance.as_str());
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
        drain_cause: drain_cause(worker.drain_cause),
        notice: cloud_notice(worker.notice),
        lost_at: rfc3339_from_wire(worker.lost_at.as_ref()),
        instance: (!instance.is_empty()).then_some(instance),
        idle_since: rfc3339_from_wire(worker.idle_since.as_ref()),
        remaining_seconds: duration_from_wire(worker.remaining.as_ref())
            .map(|remaining| remaining.as_secs_f64()),
        residency: worker.residency.as_ref().map(|residency| ResidencyDocument {
            budget_bytes: residency.budget_bytes,
            shared: residency.shared,
            models: residency.models.iter().map(seat).collect(),
        }),
    }
}

fn seat(wire: &v1::ModelResidency) -> SeatDocument<'_> {
    SeatDocument {
        model: &wire.model,
        state: residency_state(wire.state),
        memory_bytes: wire.memory_bytes,
        measured: wire.measured,
        why: &wire.why,
    }
}

const COLUMNS: [Column; 10] = [
    left("ID"),
    left("STATE"),
    left("POOL"),
    left("MODELS"),
    right("SLOTS"),
    right("BUSY"),
    right("LEFT"),
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
    // How long it needs for what it holds, as it tells.
    let remaining = duration_from_wire(worker.remaining.as_ref()).map(span);
    vec![
        worker.id.clone(),
        state_and_why(worker, now),
        worker.pool.clone(),
        or_dash(worker.models.join(",")),
        format!("{}/{}", worker.busy_slots, worker.slots),
        format!("{:.0}%", worker.utilization * 100.0),
        or_dash(remaining.unwrap_or_default()),
        or_dash(worker.device.clone()),
        format!("{}:{}", or_dash(worker.host.clone()), worker.pid),
        or_dash(seen.unwrap_or_default()),
    ]
}

const SEATS: [Column; 5] =
    [left("WORKER"), left("MODEL"), left("PLACE"), right("MEMORY"), left("WHY")];

/// A line for each model of each worker, about its place in memory; nothing if no worker tells.
pub(crate) fn seats(workers: &[v1::Worker]) -> Option<String> {
    let of_worker = |worker: &v1::Worker| {
        let seats = worker.residency.iter().flat_map(|residency| &residency.models);
        let row = |seat: &v1::ModelResidency| {
            // An estimate is not told as if it were known.
            let about = if seat.measured { "" } else { "~" };
            let memory = format!("{about}{}", mebibytes(seat.memory_bytes));
            let state = residency_state(seat.state);
            vec![worker.id.clone(), seat.model.clone(), state, memory, or_dash(seat.why.clone())]
        };
        seats.map(row).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = workers.iter().flat_map(of_worker).collect();
    (!rows.is_empty()).then(|| table(&SEATS, rows))
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// `ready`, `draining (operator)`, `draining (interruption, lost in 1m30s)`, `ready (rebalance)`.
fn state_and_why(worker: &v1::Worker, now: Timestamp) -> String {
    let (cause, notice) = (drain_cause(worker.drain_cause), cloud_notice(worker.notice));
    // A cause that is the notice itself is said once.
    let notice = notice.filter(|notice| cause.as_ref() != Some(notice));
    let is_lost = worker.state == v1::WorkerState::Lost as i32;
    let lost_in = from_wire(worker.lost_at.as_ref())
        .filter(|_| !is_lost)
        .map(|lost_at| format!("lost in {}", span(lost_at.since(now))));
    let why: Vec<String> = cause.into_iter().chain(notice).chain(lost_in).collect();
    let state = worker_state(worker.state);
    if why.is_empty() { state } else { format!("{state} ({})", why.join(", ")) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::render::time::{duration_to_wire, to_wire};

    #[test]
    fn a_worker_that_goes_says_why() {
        let state =
            |state: v1::WorkerState, cause: v1::DrainCause, notice, lost_at: Option<i64>| {
                let worker = v1::Worker {
                    state: state.into(),
                    drain_cause: cause.into(),
                    notice: v1::CloudNoticeKind::into(notice),
                    lost_at: lost_at.map(|at| to_wire(Timestamp::from_unix_millis(at * 1_000))),
                    ..v1::Worker::default()
                };
                state_and_why(&worker, Timestamp::from_unix_millis(10_000))
            };
        let (none, no_cause) = (v1::CloudNoticeKind::Unspecified, v1::DrainCause::Unspecified);
        let ready = v1::WorkerState::Ready;
        let draining = v1::WorkerState::Draining;
        assert_eq!(state(ready, no_cause, none, None), "ready");
        assert_eq!(state(draining, v1::DrainCause::Operator, none, None), "draining (operator)");
        let interruption = v1::CloudNoticeKind::Interruption;
        assert_eq!(
            state(draining, v1::DrainCause::Interruption, interruption, Some(100)),
            "draining (interruption, lost in 1m30s)"
        );
        assert_eq!(
            state(v1::WorkerState::Lost, v1::DrainCause::Interruption, interruption, Some(10)),
            "lost (interruption)"
        );
        let rebalance = v1::CloudNoticeKind::Rebalance;
        assert_eq!(state(ready, no_cause, rebalance, None), "ready (rebalance)");
        assert_eq!(
            state(draining, v1::DrainCause::Operator, rebalance, None),
            "draining (operator, rebalance)"
        );
    }

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
            remaining: Some(duration_to_wire(Duration::from_secs(90))),
            ..v1::Worker::default()
        };
        assert_eq!(document(&worker).remaining_seconds, Some(90.0));
        let silent = v1::Worker { id: "w2".into(), remaining: None, ..worker.clone() };
        assert_eq!(
            rows(&[worker, silent], Timestamp::from_unix_millis(3_000)),
            "ID  STATE  POOL     MODELS     SLOTS  BUSY   LEFT  DEVICE  HOST    SEEN\n\
             w1  ready  default  echo,mini    3/4   88%  1m30s  cpu     box:42    2s\n\
             w2  ready  default  echo,mini    3/4   88%      -  cpu     box:42    2s\n"
        );
    }

    #[test]
    fn what_is_in_memory_is_shown_with_its_reason() {
        let seat = |model: &str, state: v1::ResidencyState, measured, why: &str| {
            let (model, why) = (model.to_owned(), why.to_owned());
            let (state, memory_bytes) = (state.into(), 300 << 20);
            v1::ModelResidency { model, state, memory_bytes, measured, why }
        };
        let models = vec![
            seat("mini", v1::ResidencyState::Resident, true, "needed 3s ago"),
            seat("large", v1::ResidencyState::Absent, false, "no jobs wait for it"),
        ];
        let residency = v1::Residency { budget_bytes: 512 << 20, shared: true, models };
        let silent = v1::Worker { id: "w0".into(), ..v1::Worker::default() };
        let worker = v1::Worker { id: "w1".into(), residency: Some(residency), ..silent.clone() };
        assert_eq!(
            seats(&[silent.clone(), worker.clone()]).unwrap(),
            "WORKER  MODEL  PLACE       MEMORY  WHY\n\
             w1      mini   resident   300 MiB  needed 3s ago\n\
             w1      large  absent    ~300 MiB  no jobs wait for it\n"
        );
        assert_eq!(seats(&[silent]), None);
        let json = serde_json::to_value(document(&worker)).unwrap();
        let first = &json["residency"]["models"][0];
        assert_eq!(
            (first["state"].as_str(), first["measured"].as_bool()),
            (Some("resident"), Some(true))
        );
    }
}
