//! Instances, from the workers that the coordinator knows.

use std::collections::BTreeMap;

use stoker_core::fleet::{CapacityType, Instance, InstanceState, PoolPolicy, Reading};
use stoker_core::ids::{InstanceName, ModelName, OfferingName, PoolName};
use stoker_core::time::Timestamp;
use stoker_proto::{convert, v1};

use crate::render::text::count;
use crate::render::time::from_wire;

pub(super) fn of_pool<'a>(
    answer: &'a v1::ListWorkersResponse,
    pool: &PoolName,
) -> Vec<&'a v1::Worker> {
    answer.workers.iter().filter(|worker| worker.pool == pool.as_str()).collect()
}

/// Which offering the pool's workers are of: as was said, or the only one. Otherwise the names of those that
/// it may be.
pub(super) fn offering(
    policy: &PoolPolicy,
    pool: &PoolName,
    workers_are: &BTreeMap<PoolName, OfferingName>,
) -> Result<OfferingName, String> {
    let offerings = &policy.scaling.offerings;
    if let Some(said) = workers_are.get(pool) {
        return Ok(said.clone());
    }
    let mut names = offerings.keys();
    if let (Some(only), None) = (names.next(), names.next()) {
        return Ok(only.clone());
    }
    let usual = offerings.iter().find(|(_, of)| of.capacity == CapacityType::OnDemand);
    let usual = usual.map_or_else(|| "OFFERING".to_owned(), |(name, _)| name.to_string());
    Err(format!(
        "workers do not say which offering they are of; say it, for example with \
         --workers-are {pool}={usual}"
    ))
}

/// What is taken for granted about these workers.
pub(super) fn assumptions(
    pool: &PoolName,
    workers: &[&v1::Worker],
    offering: Result<&OfferingName, &String>,
) -> Vec<String> {
    let mut assumed = Vec::new();
    let number = count(workers.len() as u64, "worker");
    if let (Ok(offering), false) = (offering, workers.is_empty()) {
        assumed.push(format!("pool {pool}: {number} taken for instances of {offering}"));
    }
    let lost = workers.iter().filter(|worker| worker.state() == v1::WorkerState::Lost).count();
    if lost > 0 {
        let number = count(lost as u64, "worker");
        assumed.push(format!("pool {pool}: {number} that the coordinator lost taken for gone"));
    }
    assumed
}

/// The instances of a pool, if their offering is known or there are none.
pub(super) fn reading(
    workers: &[&v1::Worker],
    offering: Result<OfferingName, String>,
    now: Timestamp,
) -> Reading<Vec<Instance>> {
    let present = workers.iter().filter(|worker| worker.state() != v1::WorkerState::Lost);
    let present: Vec<&&v1::Worker> = present.collect();
    let offering = match offering {
        Ok(offering) => offering,
        Err(_) if present.is_empty() => return Reading::Known { at: now, value: Vec::new() },
        Err(why) => return Reading::Unknown { why },
    };
    let instances = present.into_iter().map(|worker| instance(worker, &offering, now));
    match instances.collect::<Option<Vec<_>>>() {
        Some(value) => Reading::Known { at: now, value },
        None => Reading::Unknown { why: "the coordinator's list of workers is incomplete".into() },
    }
}

fn instance(worker: &v1::Worker, offering: &OfferingName, now: Timestamp) -> Option<Instance> {
    let registered = from_wire(worker.registered_at.as_ref())?;
    let running = worker.busy_slots;
    let state = match worker.state() {
        v1::WorkerState::Starting => InstanceState::Booting,
        v1::WorkerState::Ready => InstanceState::Ready {
            ready_at: registered,
            running,
            idle_since: (running == 0).then_some(now),
        },
        v1::WorkerState::Unspecified
        | v1::WorkerState::Cordoned
        | v1::WorkerState::Draining
        | v1::WorkerState::Lost => InstanceState::Draining { running, since: now },
    };
    Some(Instance {
        name: InstanceName::new(&worker.id).ok()?,
        offering: offering.clone(),
        state,
        launched_at: registered,
        seen_at: from_wire(worker.last_seen_at.as_ref()).unwrap_or(now),
        notice: None,
        outdated: false,
        warm: worker.resident_models.iter().filter_map(|name| ModelName::new(name).ok()).collect(),
        remaining: convert::told_duration(worker.remaining.as_ref()),
    })
}
