//! What the services share.

use std::sync::Arc;

use stoker_core::fleet::{Fleet, Pool};
use stoker_core::ids::PoolName;
use stoker_core::time::Timestamp;
use stoker_runtime::clock::Clock;
use stoker_runtime::tasks::Tasks;

use crate::broker::Broker;
use crate::events::Events;
use crate::grpc::access::Access;
use crate::grpc::gate::Gate;
use crate::grpc::streams::StreamSlots;
use crate::identity::Identity;
use crate::publisher::Aside;
use crate::registry::Registry;
use crate::store::{JobStore, Lane};
use crate::texts::Texts;
use crate::throughput::Throughput;
use crate::watch::Hub;

/// Handles to everything a call may need.
#[derive(Debug)]
pub struct Context {
    pub fleet: Arc<Fleet>,
    pub store: Arc<dyn JobStore>,
    pub registry: Arc<Registry>,
    pub hub: Arc<Hub>,
    pub texts: Arc<Texts>,
    pub events: Arc<Events>,
    pub broker: Broker,
    pub clock: Arc<dyn Clock>,
    pub throughput: Arc<Throughput>,
    /// Queues whose messages the broker does not take.
    pub aside: Arc<Aside>,
    /// Runs what keeps streams going; ended before the store is closed.
    pub streams: Tasks,
    pub stream_slots: StreamSlots,
    /// Who may call as a worker.
    pub gate: Gate,
    /// Who may change the fleet.
    pub access: Access,
    /// What workers have to prove of the machine that they name; `None`: nothing.
    pub identity: Option<Identity>,
    pub started_at: Timestamp,
}

impl Context {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The queues of the fleet file.
    pub(crate) fn lanes(&self) -> Vec<Lane> {
        lanes(&self.fleet)
    }
}

/// Whether the fleet file names this queue.
pub(crate) fn serves(fleet: &Fleet, lane: &Lane) -> bool {
    fleet.pools.get(&lane.pool).is_some_and(|pool| pool.models.contains(&lane.model))
}

/// One queue for each model of each pool.
pub(crate) fn lanes(fleet: &Fleet) -> Vec<Lane> {
    let of_pool = |(pool, served): (&PoolName, &Pool)| {
        let pool = pool.clone();
        let models = served.models.clone();
        models.into_iter().map(move |model| Lane { pool: pool.clone(), model })
    };
    fleet.pools.iter().flat_map(of_pool).collect()
}
