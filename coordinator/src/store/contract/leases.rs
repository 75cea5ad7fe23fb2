//! Who holds what.

use stoker_runtime::ids;

use super::world::{World, attempt_of, part};
use crate::store::{Claim, ClaimOutcome};

pub async fn leases_are_counted_by_worker(world: World) {
    assert!(world.store.leases().await.unwrap().is_empty());
    let jobs = [world.submit_one(1).await, world.submit_one(1).await, world.submit_one(1).await];
    let entries = world.store.dispatch(jobs.to_vec()).await.unwrap();
    let (one, other) = (ids::worker_id(), ids::worker_id());
    let mut grants = Vec::new();
    for (entry, worker) in entries.iter().zip([one, one, other]) {
        let (claim, token) = (ids::claim_id(), ids::lease_token());
        let claim = Claim { job: entry.job, seq: entry.seq, claim, token };
        let ClaimOutcome::Granted(grant) = world.claim(worker, claim).await else {
            panic!("not granted")
        };
        grants.push((entry.job, grant));
    }
    let counted = |counts: [(_, u64); 2]| counts.into_iter().collect();
    assert_eq!(world.store.leases().await.unwrap(), counted([(one, 2), (other, 1)]));
    let (job, grant) = &grants[2];
    world.complete(attempt_of(*job, grant), vec![part(0, 1, "a")]).await;
    let left = world.store.leases().await.unwrap();
    assert_eq!(left, [(one, 2)].into_iter().collect());
}
