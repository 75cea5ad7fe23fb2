//! What the autoscaler is told of the load.

use std::time::Duration;

use stoker_core::ids::ClassName;
use stoker_core::job::FailureKind;
use stoker_runtime::clock::Clock as _;

use super::world::{START, World, attempt_of, lane, part, tenant};
use crate::store::{Demand, DemandSlot, NewJob};

async fn demand(world: &World, class: &str) -> Option<Demand> {
    let found = world.store.demand(Some(START)).await.unwrap();
    found.into_iter().find(|demand| demand.class.as_str() == class)
}

pub async fn demand_is_counted_by_lane_class_and_time(world: World) {
    // Two tenants, whose jobs count together, and a class of its own.
    let first = world.submit_one(1).await;
    let other = world.submit(NewJob { tenant: tenant("b"), ..world.new_job(1) }).await;
    let bulk = ClassName::new("bulk").unwrap();
    world.submit(NewJob { class: bulk, ..world.new_job(1) }).await;
    let standard = demand(&world, "standard").await.unwrap();
    assert_eq!((standard.lane, standard.running), (lane(), 0));
    let start_by = START.after(Duration::from_mins(1));
    assert_eq!(standard.waiting.into_iter().collect::<Vec<_>>(), [(start_by, 2)]);
    assert_eq!(demand(&world, "bulk").await.unwrap().waiting.values().sum::<u64>(), 1);

    // One that is dispatched still waits; one that runs does not.
    world.store.dispatch(vec![other]).await.unwrap();
    world.pass(30);
    let grant = world.run(first).await;
    let standard = demand(&world, "standard").await.unwrap();
    assert_eq!((standard.running, standard.waiting[&start_by]), (1, 1));

    // It took 20 s; a job that failed first says nothing about run times, and one that started late is late.
    world.pass(20);
    world.complete(attempt_of(first, &grant), vec![part(0, 1, "a")]).await;
    let late = world.submit_one(1).await;
    world.pass(70);
    let grant = world.run(late).await;
    world.fail(attempt_of(late, &grant), FailureKind::Permanent).await;
    let standard = demand(&world, "standard").await.unwrap();
    let mut total = DemandSlot::default();
    for slot in standard.slots.values() {
        total.accepted += slot.accepted;
        total.started += slot.started;
        total.started_late += slot.started_late;
        total.measured += slot.measured;
        total.run_seconds += slot.run_seconds;
        total.run_seconds_squared += slot.run_seconds_squared;
    }
    assert_eq!((total.accepted, total.started, total.started_late), (3, 2, 1));
    assert_eq!((total.measured, standard.slots.len()), (1, 4));
    assert!((total.run_seconds - 20.0).abs() < 1e-9, "{total:?}");
    assert!((total.run_seconds_squared - 400.0).abs() < 1e-9, "{total:?}");
    let slot = standard.slots.keys().next().unwrap();
    assert!(*slot <= START && START.since(*slot) < Duration::from_secs(15), "{slot:?}");

    // Without a time, or from a later one, nothing has happened.
    let now = world.store.demand(None).await.unwrap();
    assert!(now.iter().all(|demand| demand.slots.is_empty()), "{now:?}");
    assert_eq!(now.iter().map(|demand| demand.waiting.len()).sum::<usize>(), 2);
    world.pass(600);
    let later = world.store.demand(Some(world.clock.now())).await.unwrap();
    assert!(later.iter().all(|demand| demand.slots.is_empty()), "{later:?}");
}
