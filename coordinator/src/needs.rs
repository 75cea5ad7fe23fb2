//! Tells workers that have not the memory for all of their models what waits for them, a few times a second.
//!
//! Counts, and no commands: each message takes the place of the one before, and a worker that hears nothing keeps
//! what it has. Fleets whose workers have room for all of their models are not told anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use stoker_core::ids::WorkerId;
use stoker_core::job::StateKind;
use stoker_core::residency::{Holder, Standing, Waiting, share};
use stoker_core::time::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::registry::{Need, WorkerState, WorkerView};
use crate::store::{Lane, StoreError};

/// A model that has left memory is asked for this late at most.
const TICK: Duration = Duration::from_millis(500);

/// Tells until shutdown.
pub async fn tell_needs(context: Arc<Context>, shutdown: CancellationToken) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = tell(&context).await {
            tracing::debug!(%error, "workers could not be told what waits");
        }
    }
}

async fn tell(context: &Context) -> Result<(), StoreError> {
    let sharing: BTreeSet<WorkerId> = context.registry.sharing().into_iter().collect();
    if sharing.is_empty() {
        return Ok(());
    }
    let workers = context.registry.list();
    let counts = context.store.counts();
    let mut needs: BTreeMap<WorkerId, Vec<Need>> =
        sharing.iter().map(|worker| (*worker, Vec::new())).collect();
    for lane in lanes_of(&workers, &sharing) {
        let of_lane = counts.of_lane(&lane);
        let jobs = of_lane.get(StateKind::Queued) + of_lane.get(StateKind::Dispatched);
        if jobs == 0 {
            continue;
        }
        let now = context.now();
        // What has started since, or comes in just now, is told of next time.
        let Some(start_by) = context.store.first_start(lane.clone()).await? else { continue };
        let told = share(&lane.model, &Waiting { jobs, start_by }, &holders(&workers, &lane), now);
        for (worker, jobs) in told {
            if let Some(needs) = needs.get_mut(&worker) {
                let slack_ms = slack_ms(start_by, now);
                needs.push(Need { model: lane.model.clone(), jobs, slack_ms });
            }
        }
    }
    for (worker, needs) in needs {
        context.registry.tell_needs(worker, needs);
    }
    Ok(())
}

/// The queues that the sharing workers serve.
fn lanes_of(workers: &[WorkerView], sharing: &BTreeSet<WorkerId>) -> BTreeSet<Lane> {
    let registrations = workers.iter().map(|view| &view.registration);
    registrations
        .filter(|registration| sharing.contains(&registration.id))
        .flat_map(|registration| {
            let pool = registration.pool.clone();
            let models = registration.models.iter().cloned();
            models.map(move |model| Lane { pool: pool.clone(), model })
        })
        .collect()
}

/// The workers that take jobs of the queue, or would.
fn holders(workers: &[WorkerView], lane: &Lane) -> Vec<Holder> {
    let serves = |view: &&WorkerView| {
        let registration = &view.registration;
        matches!(view.state, WorkerState::Starting | WorkerState::Ready)
            && registration.pool == lane.pool
            && registration.models.contains(&lane.model)
    };
    let holder = |view: &WorkerView| {
        let idle = if view.busy_slots == 0 { Standing::Idle } else { Standing::Busy };
        let standing = view
            .residency
            .as_ref()
            // One that does not tell has all of its models, or is about to.
            .map_or(Standing::Has, |residency| residency.standing(&lane.model, idle));
        let registration = &view.registration;
        Holder { worker: registration.id, slots: registration.slots, standing }
    };
    workers.iter().filter(serves).map(holder).collect()
}

fn slack_ms(start_by: Timestamp, now: Timestamp) -> i64 {
    start_by.as_unix_millis().saturating_sub(now.as_unix_millis())
}

#[cfg(test)]
mod tests {
    use stoker_core::ids::{ModelName, PoolName};

    use super::*;
    use crate::registry::{Place, Registration, Residency, Seat};

    fn model(name: &str) -> ModelName {
        ModelName::new(name).unwrap()
    }

    fn view(number: u8, busy_slots: u32, mini: Option<Place>) -> WorkerView {
        let seat = |place| Seat {
            model: model("mini"),
            place,
            memory_bytes: 1,
            measured: true,
            why: String::new(),
        };
        let residency =
            |place| Residency { budget_bytes: 1, shared: true, models: vec![seat(place)] };
        WorkerView {
            registration: Registration {
                id: WorkerId::from_bytes([number; 16]),
                pool: PoolName::new("cpu").unwrap(),
                models: vec![model("mini"), model("large")],
                slots: 3,
                version: String::new(),
                host: String::new(),
                pid: 1,
                device: String::new(),
                metrics_address: String::new(),
                instance: None,
            },
            state: WorkerState::Ready,
            busy_slots,
            utilization: 0.0,
            resident_models: Vec::new(),
            drain_cause: None,
            notice: None,
            residency: mini.map(residency),
            remaining: None,
            idle_since: None,
            registered_at: Timestamp::from_unix_millis(0),
            last_seen_at: Timestamp::from_unix_millis(0),
        }
    }

    #[test]
    fn workers_stand_by_what_they_have_in_memory_and_do() {
        use Standing::{Busy, Has, Idle};
        let draining =
            WorkerView { state: WorkerState::Draining, ..view(9, 0, Some(Place::Resident)) };
        let workers = [
            view(1, 0, Some(Place::Absent)),
            view(2, 1, Some(Place::Leaving)),
            view(3, 1, Some(Place::Loading)),
            view(4, 1, None),
            draining,
        ];
        let lane = |pool: &str, name: &str| Lane {
            pool: PoolName::new(pool).unwrap(),
            model: model(name),
        };
        let standings = |lane: &Lane| -> Vec<Standing> {
            holders(&workers, lane).iter().map(|holder| holder.standing).collect()
        };
        assert_eq!(standings(&lane("cpu", "mini")), [Idle, Busy, Has, Has]);
        assert_eq!(standings(&lane("cpu", "large")), [Idle, Busy, Busy, Has]);
        assert!(standings(&lane("gpu", "mini")).is_empty());
        let lanes = lanes_of(&workers, &[WorkerId::from_bytes([1; 16])].into());
        assert_eq!(lanes, [lane("cpu", "mini"), lane("cpu", "large")].into());
        assert!(lanes_of(&workers, &BTreeSet::new()).is_empty());
    }
}
