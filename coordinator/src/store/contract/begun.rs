//! Items that are begun when their attempt ends.

use bytes::Bytes;
use stoker_core::job::ReleaseReason;
use stoker_core::request::Task;

use super::world::{World, attempt_of, part};
use crate::store::{
    AttemptRef, BEGUN_ITEM, Checkpoint, CompleteOutcome, HeartbeatOutcome, Release, SettleOutcome,
};

async fn begun(world: &World, attempt: AttemptRef, text: &'static str) -> HeartbeatOutcome {
    let begun = Some(Bytes::from_static(text.as_bytes()));
    let checkpoint = Checkpoint { attempt, parts: Vec::new(), begun };
    world.store.heartbeat(vec![checkpoint]).await.unwrap()[0]
}

pub async fn what_is_begun_is_kept_for_the_next_attempt_and_is_no_result(world: World) {
    let job = world.new_job(2);
    let job = world.submit(crate::store::NewJob { task: Task::TextGeneration, ..job }).await;
    let attempt = attempt_of(job, &world.run(job).await);
    assert_eq!(begun(&world, attempt, "b").await, HeartbeatOutcome::Continue);
    assert_eq!(begun(&world, attempt, "begun").await, HeartbeatOutcome::Continue);
    // A heartbeat that tells nothing of it changes nothing.
    world.heartbeat(attempt, vec![part(0, 1, "first")]).await;
    let kept = world.store.results(job, BEGUN_ITEM, 1).await.unwrap();
    assert_eq!(kept, [part(BEGUN_ITEM, 1, "begun")]);
    let checkpoint =
        Checkpoint { attempt, parts: Vec::new(), begun: Some(Bytes::from_static(b"more")) };
    let release = Release { checkpoint, reason: ReleaseReason::Draining };
    let outcomes = world.store.release(vec![release]).await.unwrap();
    assert_eq!(outcomes, [SettleOutcome::Recorded]);
    assert_eq!(begun(&world, attempt, "late").await, HeartbeatOutcome::Fenced);

    let second = world.run(job).await;
    assert_eq!(second.first_item, 1);
    let kept = world.store.results(job, BEGUN_ITEM, 1).await.unwrap();
    assert_eq!(kept, [part(BEGUN_ITEM, 1, "more")]);
    let attempt = attempt_of(job, &second);
    let outcome = world.complete(attempt, vec![part(1, 1, "second")]).await;
    assert_eq!(outcome, CompleteOutcome::Recorded);
    let stored = world.store.results(job, 0, usize::MAX).await.unwrap();
    assert_eq!(stored, [part(0, 1, "first"), part(1, 1, "second")]);
}

pub async fn of_other_tasks_nothing_is_begun(world: World) {
    let job = world.submit_one(2).await;
    let attempt = attempt_of(job, &world.run(job).await);
    assert_eq!(begun(&world, attempt, "begun").await, HeartbeatOutcome::Continue);
    assert_eq!(world.store.results(job, 0, usize::MAX).await.unwrap(), []);
}
