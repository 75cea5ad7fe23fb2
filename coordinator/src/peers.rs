//! Workers of other coordinators: known to this one, counted by its dispatcher, and ordered through it.
//!
//! A worker has a stream to one coordinator. That one keeps the worker's row in the store up to date, and
//! carries out the orders that any coordinator left in it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stoker_core::departure::Cause;
use stoker_core::fleet::Notice;
use stoker_core::ids::{InstanceName, ModelName, PoolName};
use stoker_core::time::Timestamp;
use stoker_runtime::tasks::Tasks;
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::registry::{Registration, Registry, Residency, WorkerState, WorkerView};
use crate::store::{JobStore, KnownWorker, Origin, StoreError, WorkerRow};

/// Rows are told and read at least this often. Others' slots and orders are known after this time.
const TICK: Duration = Duration::from_secs(1);

/// What the exchange works with.
#[derive(Debug, Clone)]
pub struct Peers {
    pub store: Arc<dyn JobStore>,
    pub registry: Arc<Registry>,
    pub events: Arc<Events>,
}

impl Peers {
    /// Starts the exchange; with a store for one coordinator it ends at once.
    pub fn start(self, tasks: &Tasks) {
        let shutdown = tasks.shutdown_token();
        tasks.spawn("peers", exchange(self, shutdown));
    }
}

async fn exchange(peers: Peers, shutdown: CancellationToken) {
    loop {
        match exchange_once(&peers).await {
            Ok(Exchanged::Done) => {}
            Ok(Exchanged::Alone) => return,
            Err(error) => {
                tracing::debug!(%error, "workers could not be told to other coordinators");
            }
        }
        // Cancel-safe: a bell that was not taken stays rung.
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = peers.registry.changed() => {}
            () = shutdown.cancelled() => return,
        }
    }
}

enum Exchanged {
    Done,
    /// There are no other coordinators.
    Alone,
}

async fn exchange_once(peers: &Peers) -> Result<Exchanged, StoreError> {
    let now = peers.registry.now();
    let mine = peers.registry.own().iter().filter_map(|view| row(view, now)).collect();
    let Some(known) = peers.store.exchange_workers(mine).await? else {
        return Ok(Exchanged::Alone);
    };
    let mut others = Vec::new();
    for KnownWorker { row, home, orders } in known {
        match home {
            Origin::Here => peers.registry.obey(row.id, orders),
            Origin::Elsewhere => others.extend(view(&row, now)),
        }
    }
    if peers.registry.learn(others) {
        // There may be room that was not there before.
        peers.events.dispatcher.notify_one();
    }
    Ok(Exchanged::Done)
}

/// What a coordinator writes of a worker. A later version may add to it.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    pool: PoolName,
    models: Vec<ModelName>,
    slots: u32,
    version: String,
    host: String,
    pid: u32,
    device: String,
    metrics_address: String,
    state: String,
    busy_slots: u32,
    utilization: f64,
    resident_models: Vec<ModelName>,
    #[serde(default)]
    drain_cause: Option<String>,
    #[serde(default)]
    notice: Option<ToldNotice>,
    #[serde(default)]
    residency: Option<Residency>,
    #[serde(default)]
    instance: Option<InstanceName>,
    #[serde(default)]
    remaining: Option<Duration>,
    /// By no clock, as clocks differ.
    #[serde(default)]
    idle_for: Option<Duration>,
    registered_at: Timestamp,
}

/// A notice on its way between coordinators, whose clocks differ.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum ToldNotice {
    Interruption { lost_in: Duration },
    Rebalance,
}

impl ToldNotice {
    fn tell(notice: Notice, now: Timestamp) -> Self {
        match notice {
            Notice::Interruption { lost_at } => Self::Interruption { lost_in: lost_at.since(now) },
            Notice::Rebalance => Self::Rebalance,
        }
    }

    fn hear(self, now: Timestamp) -> Notice {
        match self {
            Self::Interruption { lost_in } => Notice::Interruption { lost_at: now.after(lost_in) },
            Self::Rebalance => Notice::Rebalance,
        }
    }
}

fn row(view: &WorkerView, now: Timestamp) -> Option<WorkerRow> {
    let Registration {
        id,
        pool,
        models,
        slots,
        version,
        host,
        pid,
        device,
        metrics_address,
        instance,
    } = view.registration.clone();
    let about = About {
        pool,
        models,
        slots,
        version,
        host,
        pid,
        device,
        metrics_address,
        state: view.state.name().to_owned(),
        busy_slots: view.busy_slots,
        utilization: view.utilization,
        resident_models: view.resident_models.clone(),
        drain_cause: view.drain_cause.map(|cause| cause.name().to_owned()),
        notice: view.notice.map(|notice| ToldNotice::tell(notice, now)),
        residency: view.residency.clone(),
        instance,
        remaining: view.remaining,
        idle_for: view.idle_since.map(|since| now.since(since)),
        registered_at: view.registered_at,
    };
    let about = serde_json::to_string(&about).ok()?;
    Some(WorkerRow { id, about, silent_for: now.since(view.last_seen_at) })
}

/// `None` when another version wrote what this one cannot read.
fn view(row: &WorkerRow, now: Timestamp) -> Option<WorkerView> {
    let about: About = serde_json::from_str(&row.about).ok()?;
    let state = WorkerState::ALL.into_iter().find(|state| state.name() == about.state)?;
    Some(WorkerView {
        registration: Registration {
            id: row.id,
            pool: about.pool,
            models: about.models,
            slots: about.slots,
            version: about.version,
            host: about.host,
            pid: about.pid,
            device: about.device,
            metrics_address: about.metrics_address,
            instance: about.instance,
        },
        state,
        busy_slots: about.busy_slots,
        utilization: about.utilization,
        resident_models: about.resident_models,
        drain_cause: about
            .drain_cause
            .and_then(|told| Cause::ALL.into_iter().find(|cause| cause.name() == told)),
        notice: about.notice.map(|told| told.hear(now)),
        residency: about.residency,
        remaining: about.remaining,
        idle_since: about.idle_for.map(|idle| now.before(idle)),
        registered_at: about.registered_at,
        last_seen_at: now.before(row.silent_for),
    })
}

#[cfg(test)]
mod tests {
    use stoker_core::ids::WorkerId;

    use super::*;

    /// As a version wrote it that did not know of a field.
    fn without(about: &str, field: &str) -> String {
        let mut told: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(about).unwrap();
        assert!(told.remove(field).is_some());
        serde_json::to_string(&told).unwrap()
    }

    #[test]
    fn a_worker_is_the_same_to_another_coordinator() {
        let now = Timestamp::from_unix_millis(100_000);
        let seen = WorkerView {
            registration: Registration {
                id: WorkerId::from_bytes([1; 16]),
                pool: PoolName::new("cpu").unwrap(),
                models: vec![ModelName::new("mini").unwrap()],
                slots: 3,
                version: "1".to_owned(),
                host: "box".to_owned(),
                pid: 7,
                device: "cpu".to_owned(),
                metrics_address: String::new(),
                instance: Some(InstanceName::new("i-1").unwrap()),
            },
            state: WorkerState::Ready,
            busy_slots: 2,
            utilization: 0.5,
            resident_models: vec![ModelName::new("mini").unwrap()],
            drain_cause: Some(Cause::Interruption),
            notice: Some(Notice::Interruption { lost_at: now.after(Duration::from_secs(9)) }),
            residency: Some(Residency { budget_bytes: 5, shared: true, models: Vec::new() }),
            remaining: Some(Duration::from_millis(1_500)),
            idle_since: Some(now.before(Duration::from_secs(20))),
            registered_at: Timestamp::from_unix_millis(10),
            last_seen_at: now.before(Duration::from_secs(2)),
        };
        let told = row(&seen, now).unwrap();
        assert_eq!(told.silent_for, Duration::from_secs(2));
        let later = now.after(Duration::from_secs(1));
        let heard = view(&told, later).unwrap();
        assert_eq!(
            heard.notice,
            Some(Notice::Interruption { lost_at: later.after(Duration::from_secs(9)) }),
            "by the clock of whoever hears of it"
        );
        assert_eq!(view(&told, now), Some(seen.clone()));
        let silent = WorkerRow { about: without(&told.about, "remaining"), ..told.clone() };
        let silent = view(&silent, now).unwrap();
        assert_eq!(silent, WorkerView { remaining: None, ..seen }, "of an older coordinator");
        assert_eq!(view(&WorkerRow { about: "{}".to_owned(), ..told }, now), None);
    }
}
