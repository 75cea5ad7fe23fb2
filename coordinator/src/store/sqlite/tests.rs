//! The contract on `SQLite`, and what only `SQLite` can get wrong.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use stoker_core::policy::JobPolicy;
use stoker_runtime::clock::ManualClock;

use super::{SqliteOptions, SqliteStore};
use crate::store::contract::{self, START, World, recording_listener};
use crate::store::{StoreError, TenantScope};

fn open(directory: &Path) -> Result<World, StoreError> {
    let clock = ManualClock::new(START);
    let (listener, changes) = recording_listener();
    let policy = JobPolicy::default();
    let options = SqliteOptions { policy, clock: Arc::new(clock.clone()), listener };
    let store = Arc::new(SqliteStore::open(directory, options)?);
    Ok(World { store, clock, changes })
}

fn world() -> std::future::Ready<(World, tempfile::TempDir)> {
    let directory = tempfile::tempdir().unwrap();
    std::future::ready((open(directory.path()).unwrap(), directory))
}

crate::store_contract!(world);

fn message(result: Result<World, StoreError>) -> String {
    result.expect_err("the store must not open").to_string()
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let world = open(directory.path()).unwrap();
    let job = contract::submit_one(&world).await;
    world.store.close().await;
    drop(world);
    let world = open(directory.path()).unwrap();
    assert!(world.store.get(TenantScope::All, job).await.unwrap().is_some());
    assert_eq!(world.store.counts().total().open(), 1);
}

#[tokio::test]
async fn a_second_coordinator_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _first = open(directory.path()).unwrap();
    assert!(message(open(directory.path())).contains("another coordinator uses it"));
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).unwrap().store.close().await;
    let db = Connection::open(directory.path().join("stoker.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    assert!(message(open(directory.path())).contains("newer version"));
}

#[tokio::test]
async fn the_database_of_another_program_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let db = Connection::open(directory.path().join("stoker.db")).unwrap();
    db.execute_batch("PRAGMA application_id = 7; CREATE TABLE theirs (x)").unwrap();
    drop(db);
    assert!(message(open(directory.path())).contains("another program"));
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let world = open(directory.path()).unwrap();
    for _ in 0..200 {
        contract::submit_one(&world).await;
    }
    world.store.close().await;
    drop(world);
    let file = directory.path().join("stoker.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].iter_mut().take(64 * 1024).for_each(|byte| *byte ^= 0x5a);
    std::fs::write(&file, bytes).unwrap();
    assert!(message(open(directory.path())).contains("restore the file from a backup"));
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let world = open(directory.path()).unwrap();
    world.store.close().await;
    let error = world.store.sweep(1, Vec::new()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable), "{error:?}");
}

fn raw(directory: &Path) -> Connection {
    Connection::open(directory.join("stoker.db")).unwrap()
}

/// It was asked for in time; that the disk stalled is not the workers' fault.
#[tokio::test]
async fn a_sweep_that_is_held_up_expires_only_what_was_due_when_it_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(START);
    let (listener, _) = recording_listener();
    let policy = JobPolicy::default();
    let options = SqliteOptions { policy, clock: Arc::new(clock.clone()), listener };
    let store = Arc::new(SqliteStore::open(directory.path(), options).unwrap());
    let (_, changes) = recording_listener();
    let shared = Arc::clone(&store) as Arc<dyn crate::store::JobStore>;
    let world = World { store: shared, clock: clock.clone(), changes };
    let job = contract::submit_one(&world).await;
    world.run(job).await;

    let (resume, stalled) = std::sync::mpsc::channel::<()>();
    let stall = store.writer.call(move |_| {
        let _ = stalled.recv();
        Ok(())
    });
    let sweep = world.store.sweep(10, Vec::new());
    let release = async {
        // Both calls are in the writer's hands: they were polled first.
        clock.advance(std::time::Duration::from_secs(35));
        resume.send(()).unwrap();
    };
    let (_, swept, ()) = tokio::join!(biased; stall, sweep, release);
    assert_eq!(swept.unwrap().changed, 0);
    assert_eq!(world.state(job).await, stoker_core::job::StateKind::Leased);
}

#[tokio::test]
async fn a_job_that_cannot_be_read_does_not_keep_others_from_their_timers() {
    let directory = tempfile::tempdir().unwrap();
    let world = open(directory.path()).unwrap();
    let (bad, good) = (contract::submit_one(&world).await, contract::submit_one(&world).await);
    world.run(bad).await;
    world.pass(1);
    world.run(good).await;
    raw(directory.path())
        .execute("UPDATE jobs SET failure_reason = 99 WHERE id = ?", [bad.as_bytes()])
        .unwrap();
    world.pass(60);
    assert_eq!(world.store.sweep(1, Vec::new()).await.unwrap().changed, 0);
    assert_eq!(world.store.sweep(1, Vec::new()).await.unwrap().changed, 1);
    assert_eq!(world.state(good).await, stoker_core::job::StateKind::Queued);
}

#[tokio::test]
async fn room_within_the_file_counts_as_free() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(START);
    let (listener, _) = recording_listener();
    let policy = JobPolicy::default();
    let options = SqliteOptions { policy, clock: Arc::new(clock.clone()), listener };
    let store = SqliteStore::open(directory.path(), options).unwrap();
    let removed = store.writer.call(|write| {
        let fill = "CREATE TABLE ballast AS SELECT zeroblob(1000000) AS data";
        write
            .db
            .execute_batch(fill)
            .and_then(|()| write.db.execute_batch("DROP TABLE ballast"))
            .map_err(StoreError::database("filling"))
    });
    removed.await.unwrap();
    assert!(store.writer.free_bytes() >= 1_000_000, "{}", store.writer.free_bytes());
}

#[tokio::test]
async fn nobody_else_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let world = open(directory.path()).unwrap();
    contract::submit_one(&world).await;
    for name in ["stoker.db", "stoker.db-wal"] {
        let mode = directory.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
