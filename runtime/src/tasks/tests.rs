use std::future::pending;
use std::io;

use super::*;

const SOON: Duration = Duration::from_secs(5);

fn group() -> Tasks {
    Tasks::new(CancellationToken::new())
}

async fn stumble() {
    tokio::task::yield_now().await;
    panic!("on purpose");
}

#[tokio::test]
async fn tasks_that_watch_the_token_end_in_time() {
    let tasks = group();
    for _ in 0..3 {
        let token = tasks.shutdown_token();
        tasks.spawn("polite", async move { token.cancelled().await });
    }
    tasks.close_and_wait(SOON).await.unwrap();
    tasks.close_and_wait(SOON).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn those_left_at_the_deadline_are_named_and_aborted() {
    let tasks = group();
    let stuck = tasks.spawn("stuck", pending::<()>());
    tasks.spawn("stuck", pending::<()>());
    tasks.spawn("also-stuck", pending::<()>());
    tasks.spawn("quick", async {});
    let left = tasks.close_and_wait(SOON).await.unwrap_err();
    assert_eq!(left, ["also-stuck", "stuck"]);
    assert!(stuck.await.unwrap_err().is_cancelled());
    tasks.close_and_wait(SOON).await.unwrap();
}

#[tokio::test]
async fn a_task_returns_its_value() {
    assert_eq!(group().spawn("sum", async { 1 + 1 }).await.unwrap(), 2);
}

#[tokio::test]
async fn a_plain_task_that_panics_ends_alone() {
    let tasks = group();
    let handle = tasks.spawn("clumsy", stumble());
    assert!(handle.await.unwrap_err().is_panic());
    assert!(!tasks.shutdown_token().is_cancelled());
    assert_eq!(tasks.failure(), None);
    tasks.close_and_wait(SOON).await.unwrap();
}

#[tokio::test]
async fn a_critical_task_that_panics_ends_the_process() {
    let tasks = group();
    tasks.spawn_critical("heart", stumble());
    tasks.shutdown_token().cancelled().await;
    assert_eq!(tasks.failure().unwrap(), "task `heart`: panicked");
}

#[tokio::test]
async fn a_critical_task_that_ends_unbidden_ends_the_process() {
    let tasks = group();
    tasks.spawn_critical("heart", async {});
    tasks.shutdown_token().cancelled().await;
    assert!(tasks.failure().unwrap().contains("nobody asked"));
}

#[tokio::test]
async fn a_critical_task_that_fails_gives_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the disk")]
    struct Failed(#[source] io::Error);

    let tasks = group();
    tasks.spawn_critical("heart", async { Err(Failed(io::Error::other("it burns"))) });
    tasks.shutdown_token().cancelled().await;
    assert_eq!(tasks.failure().unwrap(), "task `heart`: cannot read the disk: it burns");
}

#[tokio::test]
async fn a_critical_task_that_ends_at_shutdown_is_no_failure() {
    let tasks = group();
    let token = tasks.shutdown_token();
    tasks.spawn_critical("heart", async move { token.cancelled().await });
    tasks.close_and_wait(SOON).await.unwrap();
    assert_eq!(tasks.failure(), None);
}

#[tokio::test(start_paused = true)]
async fn a_critical_task_aborted_at_the_deadline_is_no_failure() {
    let tasks = group();
    let handle = tasks.spawn_critical("heart", pending::<()>());
    assert_eq!(tasks.close_and_wait(SOON).await.unwrap_err(), ["heart"]);
    assert!(handle.await.unwrap_err().is_cancelled());
    assert_eq!(tasks.failure(), None);
}

#[tokio::test(start_paused = true)]
async fn a_child_ends_alone_and_its_parent_waits_for_it() {
    let tasks = group();
    let ended_alone = tasks.child();
    let token = ended_alone.shutdown_token();
    ended_alone.spawn("inner", async move { token.cancelled().await });
    ended_alone.close_and_wait(SOON).await.unwrap();
    assert!(!tasks.shutdown_token().is_cancelled());

    let stuck = tasks.child().child();
    stuck.spawn("inner-stuck", pending::<()>());
    assert_eq!(tasks.close_and_wait(SOON).await.unwrap_err(), ["inner-stuck"]);
    assert!(stuck.shutdown_token().is_cancelled());
}

#[tokio::test]
async fn a_critical_task_of_a_child_ends_the_whole_process() {
    let tasks = group();
    tasks.child().spawn_critical("inner-heart", async {});
    tasks.shutdown_token().cancelled().await;
    assert!(tasks.failure().unwrap().contains("inner-heart"));
}

#[tokio::test]
async fn a_task_spawned_during_shutdown_is_waited_for() {
    let tasks = group();
    let inner = tasks.clone();
    let (done, mut ended) = tokio::sync::oneshot::channel();
    tasks.spawn("first", async move {
        inner.shutdown_token().cancelled().await;
        inner.spawn("second", async move {
            tokio::task::yield_now().await;
            done.send(()).unwrap();
        });
    });
    tasks.close_and_wait(SOON).await.unwrap();
    ended.try_recv().unwrap();
}
