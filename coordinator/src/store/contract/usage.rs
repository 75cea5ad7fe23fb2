//! What attempts took of workers' time.

use std::time::Duration;

use stoker_core::ids::{JobId, WorkerId};
use stoker_runtime::clock::Clock as _;
use stoker_runtime::ids;

use super::world::{START, World, attempt_of, lane, part, tenant};
use crate::store::{Claim, ClaimOutcome, Grant, NewJob, Usage};

async fn run_on(world: &World, worker: WorkerId, job: JobId) -> Grant {
    let seq = world.store.dispatch(vec![job]).await.unwrap()[0].seq;
    let claim = Claim { job, seq, claim: ids::claim_id(), token: ids::lease_token() };
    match world.claim(worker, claim).await {
        ClaimOutcome::Granted(grant) => *grant,
        other => panic!("not granted: {other:?}"),
    }
}

pub async fn usage_counts_each_moment_of_a_worker_once(world: World) {
    let first = world.submit_one(1).await;
    let other = world.submit(NewJob { tenant: tenant("z"), ..world.new_job(1) }).await;
    let alone = world.submit_one(1).await;
    let worker = ids::worker_id();
    let held = run_on(&world, worker, first).await;
    world.pass(10);
    let held_other = run_on(&world, worker, other).await;
    world.pass(20);
    world.complete(attempt_of(first, &held), vec![part(0, 1, "a")]).await;
    world.pass(5);
    world.complete(attempt_of(other, &held_other), vec![part(0, 1, "a")]).await;
    // On a worker of its own, and running still.
    let _runs = run_on(&world, ids::worker_id(), alone).await;
    world.pass(7);

    let now = world.clock.now();
    let usage = world.store.usage(START, now).await.unwrap();
    let day = START.as_unix_millis() / 86_400_000;
    let expected = |name, attempts, taken, busy| Usage {
        lane: lane(),
        tenant: tenant(name),
        day,
        attempts,
        taken: Duration::from_secs(taken),
        busy: Duration::from_secs(busy),
    };
    // 30 s of the first, of which the other's worker was busy already; 25 s of the other, 5 s of them alone.
    let own = world.new_job(1).tenant;
    assert_eq!(usage, [expected(own.as_str(), 2, 37, 37), expected("z", 1, 25, 5)]);

    // What began outside of the time is not told, and what runs beyond it is told up to its end.
    let early = world.store.usage(START, START.after(Duration::from_secs(5))).await.unwrap();
    assert_eq!(early, [expected(own.as_str(), 1, 5, 5)]);
    assert_eq!(world.store.usage(now, now.after(Duration::from_secs(5))).await.unwrap(), []);
}
