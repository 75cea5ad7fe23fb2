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

macro_rules! contract {
    ($($name:ident)*) => {$(
        #[tokio::test]
        async fn $name() {
            let directory = tempfile::tempdir().unwrap();
            contract::$name(open(directory.path()).unwrap()).await;
        }
    )*};
}

contract! {
    a_job_goes_from_submit_to_result
    the_same_key_and_request_give_the_same_job
    concurrent_submits_with_one_key_make_one_job
    tenants_do_not_see_each_other
    a_repeated_claim_gets_the_same_grant
    a_claim_answer_that_is_full_defers_the_rest
    checkpoints_let_the_next_attempt_go_on
    a_checkpoint_with_a_gap_is_refused
    a_zombies_failure_changes_nothing_and_its_success_wins
    a_wrong_token_has_no_effect
    retries_are_delayed_and_end_as_a_dead_letter
    discarded_dead_letters_leave_the_list
    releases_keep_the_checkpoint_and_cost_nothing
    cancel_stops_what_waits_at_once_and_what_runs_in_time
    deadlines_expire_jobs_in_any_state
    messages_stay_in_the_outbox_until_they_are_cleared
    a_broken_stream_gives_the_job_away_after_the_grace
    amnesty_gives_every_lease_a_full_life
    waiting_jobs_come_by_tenant_with_least_slack_first
    the_oldest_wait_ends_with_the_first_start
    messages_that_may_be_lost_are_published_again
    an_intact_queue_is_not_sent_its_messages_again
    the_outbox_is_read_by_queue
    a_repetition_is_known_by_all_its_keys
    lists_are_paged_and_filtered
    retention_removes_results_first_and_jobs_later
    counts_follow_every_change
}

fn message(result: Result<World, StoreError>) -> String {
    result.err().expect("the store must not open").to_string()
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
