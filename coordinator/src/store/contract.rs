//! The suite that every store passes, as functions over a [`World`]; [`store_contract!`] makes tests.
//!
//! Each test is given an empty store and the clock that it reads.
//!
//! [`store_contract!`]: crate::store_contract
#![expect(clippy::unwrap_used, reason = "tests, though another crate may run them")]

mod begun;
mod demand;
mod leases;
mod ledger;
mod suite;
mod usage;
mod world;

use std::time::Duration;

use bytes::Bytes;
use stoker_core::ids::{ClassName, ModelName};
use stoker_core::job::{
    AttemptOutcome, ClaimRefusal, FailureKind, FailureReason, ReleaseReason, StateKind,
};
use stoker_core::request::{Idempotency, Labels};
use stoker_runtime::clock::Clock as _;
use stoker_runtime::ids;

pub use self::begun::{
    of_other_tasks_nothing_is_begun, what_is_begun_is_kept_for_the_next_attempt_and_is_no_result,
};
pub use self::demand::demand_is_counted_by_lane_class_and_time;
pub use self::leases::leases_are_counted_by_worker;
pub use self::ledger::{
    a_machine_is_left_from_its_end_on, a_machine_is_written_version_by_version,
    a_repeated_write_is_answered_as_the_first, an_operators_order_stands_above_the_leader,
    nothing_is_written_under_another_switch, one_autoscaler_leads_and_the_past_writes_nothing,
    the_ledger_is_read_in_pages_and_forgets_what_ended_long_ago,
};
pub use self::usage::usage_counts_each_moment_of_a_worker_once;
pub use self::world::{START, World, recording_listener, submit_one};
use self::world::{attempt_of, filter, lane, part, tenant};
use super::{
    AttemptRef, Cancelled, Checkpoint, Claim, ClaimOutcome, CompleteOutcome, Filter,
    HeartbeatOutcome, Lane, LaneSet, NewJob, Release, Retried, SettleOutcome, StoreError,
    TenantScope,
};

pub async fn a_job_goes_from_submit_to_result(world: World) {
    let job = world.submit_one(3).await;
    let grant = world.run(job).await;
    assert_eq!(grant.input, Bytes::from_static(b"input"));
    let outcome = world.complete(attempt_of(job, &grant), vec![part(0, 3, "abc")]).await;
    assert_eq!(outcome, CompleteOutcome::Recorded);
    assert_eq!(world.state(job).await, StateKind::Succeeded);
    assert_eq!(world.store.results(job, 0, 1).await.unwrap(), vec![part(0, 3, "abc")]);
    let attempts = world.store.attempts(job).await.unwrap();
    assert_eq!(attempts[0].outcome, AttemptOutcome::Succeeded);
    let states: Vec<_> = world.changes.lock().unwrap().iter().map(|change| change.to).collect();
    let life = [StateKind::Queued, StateKind::Dispatched, StateKind::Leased, StateKind::Succeeded];
    assert_eq!(states, life);
}

pub async fn the_same_key_and_request_give_the_same_job(world: World) {
    let key = |digest| Some(Idempotency { key: "k".into(), request_digest: [digest; 32] });
    let first = NewJob { idempotency: key(1), ..world.new_job(1) };
    let again = NewJob { idempotency: key(1), ..world.new_job(1) };
    let other = NewJob { idempotency: key(2), ..world.new_job(1) };
    let stranger = NewJob { tenant: tenant("b"), idempotency: key(2), ..world.new_job(1) };
    let id = first.id;
    let submitted = world.store.submit(vec![first, again]).await.unwrap();
    assert_eq!((submitted[0].created, submitted[1].created), (true, false));
    assert_eq!(submitted[1].job, id);
    let unrelated = world.new_job(1);
    let unrelated_id = unrelated.id;
    let error = world.store.submit(vec![unrelated, other]).await.unwrap_err();
    assert!(matches!(error, StoreError::KeyReused { index: 1, job } if job == id), "{error:?}");
    let left = world.store.get(TenantScope::All, unrelated_id).await.unwrap();
    assert!(left.is_none(), "a batch is stored whole or not at all");
    assert!(world.store.submit(vec![stranger]).await.unwrap()[0].created);
}

pub async fn concurrent_submits_with_one_key_make_one_job(world: World) {
    let mut calls = Vec::new();
    for _ in 0..32 {
        let key = Idempotency { key: "k".into(), request_digest: [1; 32] };
        let job = NewJob { idempotency: Some(key), ..world.new_job(1) };
        calls.push(world.store.submit(vec![job]));
    }
    let submitted = futures::future::try_join_all(calls).await.unwrap();
    assert_eq!(submitted.iter().filter(|jobs| jobs[0].created).count(), 1);
    assert!(submitted.iter().all(|jobs| jobs[0].job == submitted[0][0].job));
}

pub async fn tenants_do_not_see_each_other(world: World) {
    let job = world.submit_one(1).await;
    let stranger = TenantScope::Only(tenant("stranger"));
    assert!(world.store.get(stranger.clone(), job).await.unwrap().is_none());
    let cancelled = world.store.cancel(stranger.clone(), job).await.unwrap();
    assert!(matches!(cancelled, Cancelled::Unknown));
    let retried = world.store.retry(stranger.clone(), job, ids::job_id(START)).await.unwrap();
    assert!(matches!(retried, Retried::Unknown));
    let page = world.store.list(Filter { scope: stranger, ..filter() }).await.unwrap();
    assert!(page.jobs.is_empty());
}

pub async fn a_repeated_claim_gets_the_same_grant(world: World) {
    let job = world.submit_one(1).await;
    let entry = world.store.dispatch(vec![job]).await.unwrap().pop().unwrap();
    let worker = ids::worker_id();
    let claim = Claim { job, seq: entry.seq, claim: ids::claim_id(), token: ids::lease_token() };
    let again = Claim { token: ids::lease_token(), ..claim };
    let other = Claim { claim: ids::claim_id(), ..claim };
    let outcomes = world.store.claim(worker, vec![claim, again, other], usize::MAX).await.unwrap();
    let [ClaimOutcome::Granted(first), ClaimOutcome::Granted(second), third] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!((first.attempt, first.token), (second.attempt, second.token));
    assert!(matches!(third, ClaimOutcome::Refused(ClaimRefusal::Busy)), "{third:?}");
    let unknown = Claim { job: ids::job_id(START), ..claim };
    assert!(matches!(world.claim(worker, unknown).await, ClaimOutcome::Unknown));
}

pub async fn a_claim_answer_that_is_full_defers_the_rest(world: World) {
    let jobs = [world.submit_one(1).await, world.submit_one(1).await];
    let entries = world.store.dispatch(jobs.to_vec()).await.unwrap();
    let claims = entries
        .iter()
        .map(|entry| Claim {
            job: entry.job,
            seq: entry.seq,
            claim: ids::claim_id(),
            token: ids::lease_token(),
        })
        .collect();
    let outcomes = world.store.claim(ids::worker_id(), claims, 1).await.unwrap();
    assert!(matches!(outcomes[0], ClaimOutcome::Granted(_)));
    assert!(matches!(outcomes[1], ClaimOutcome::Deferred));
}

pub async fn checkpoints_let_the_next_attempt_go_on(world: World) {
    let job = world.submit_one(10).await;
    let grant = world.run(job).await;
    let attempt = attempt_of(job, &grant);
    let parts = vec![part(0, 4, "first")];
    assert_eq!(world.heartbeat(attempt, parts.clone()).await, HeartbeatOutcome::Continue);
    // A lost answer makes the worker send the same again, with more.
    let parts = vec![part(0, 4, "first"), part(4, 2, "second")];
    assert_eq!(world.heartbeat(attempt, parts).await, HeartbeatOutcome::Continue);
    world.pass(30);
    assert_eq!(world.store.sweep(10, Vec::new()).await.unwrap().changed, 1);
    let second = world.run(job).await;
    assert_eq!(second.first_item, 6);
    let attempt = attempt_of(job, &second);
    let outcome = world.complete(attempt, vec![part(6, 3, "short")]).await;
    assert_eq!(outcome, CompleteOutcome::Incomplete);
    let outcome = world.complete(attempt, vec![part(6, 4, "third")]).await;
    assert_eq!(outcome, CompleteOutcome::Recorded);
    let stored = world.store.results(job, 0, usize::MAX).await.unwrap();
    assert_eq!(stored, vec![part(0, 4, "first"), part(4, 2, "second"), part(6, 4, "third")]);
    let tail = world.store.results(job, 5, usize::MAX).await.unwrap();
    assert_eq!(tail[0].first_item, 4, "the part that holds item 5 comes first");
}

pub async fn a_checkpoint_with_a_gap_is_refused(world: World) {
    let job = world.submit_one(10).await;
    let attempt = attempt_of(job, &world.run(job).await);
    assert_eq!(world.heartbeat(attempt, vec![part(2, 2, "gap")]).await, HeartbeatOutcome::Fenced);
    assert_eq!(world.heartbeat(attempt, vec![part(0, 11, "long")]).await, HeartbeatOutcome::Fenced);
}

pub async fn a_zombies_failure_changes_nothing_and_its_success_wins(world: World) {
    let job = world.submit_one(4).await;
    let zombie = attempt_of(job, &world.run(job).await);
    world.heartbeat(zombie, vec![part(0, 2, "zombie-1")]).await;
    world.pass(30);
    world.store.sweep(10, Vec::new()).await.unwrap();
    let current = attempt_of(job, &world.run(job).await);
    world.heartbeat(current, vec![part(2, 1, "current-1")]).await;
    assert_eq!(world.fail(zombie, FailureKind::Permanent).await, SettleOutcome::Fenced);
    assert_eq!(world.heartbeat(zombie, vec![]).await, HeartbeatOutcome::Fenced);
    assert_eq!(world.state(job).await, StateKind::Leased);
    let outcome = world.complete(zombie, vec![part(2, 2, "zombie-2")]).await;
    assert_eq!(outcome, CompleteOutcome::Recorded);
    let outcome = world.complete(current, vec![part(3, 1, "current-2")]).await;
    assert_eq!(outcome, CompleteOutcome::Terminal);
    let again = world.complete(zombie, vec![part(2, 2, "zombie-2")]).await;
    assert_eq!(again, CompleteOutcome::AlreadyRecorded);
    let stored = world.store.results(job, 0, usize::MAX).await.unwrap();
    assert_eq!(stored, vec![part(0, 2, "zombie-1"), part(2, 2, "zombie-2")]);
    let record = world.store.get(TenantScope::All, job).await.unwrap().unwrap();
    assert_eq!(record.result_bytes, 16);
}

pub async fn a_wrong_token_has_no_effect(world: World) {
    let job = world.submit_one(1).await;
    let right = attempt_of(job, &world.run(job).await);
    let wrong = AttemptRef { token: ids::lease_token(), ..right };
    let outcome = world.complete(wrong, vec![part(0, 1, "forged")]).await;
    assert_eq!(outcome, CompleteOutcome::Fenced);
    assert_eq!(world.fail(wrong, FailureKind::Permanent).await, SettleOutcome::Fenced);
    assert_eq!(world.heartbeat(wrong, vec![]).await, HeartbeatOutcome::Fenced);
    assert_eq!(world.state(job).await, StateKind::Leased);
}

pub async fn retries_are_delayed_and_end_as_a_dead_letter(world: World) {
    let job = world.submit_one(1).await;
    for _ in 0..3 {
        let attempt = attempt_of(job, &world.run(job).await);
        assert_eq!(world.fail(attempt, FailureKind::Retryable).await, SettleOutcome::Recorded);
        world.pass(300);
        world.store.sweep(10, Vec::new()).await.unwrap();
    }
    let record = world.store.get(TenantScope::All, job).await.unwrap().unwrap();
    assert_eq!(record.job.state.kind(), StateKind::Failed);
    assert_eq!(record.job.failure.unwrap().reason, FailureReason::RetriesExhausted);
    let dead = Filter { only_dead_letters: true, ..filter() };
    assert_eq!(world.store.list(dead.clone()).await.unwrap().jobs.len(), 1);

    let new_id = ids::job_id(world.clock.now());
    let Retried::As(retried) = world.store.retry(TenantScope::All, job, new_id).await.unwrap()
    else {
        panic!("not retried")
    };
    assert_eq!((retried.job.id, retried.retry_of), (new_id, Some(job)));
    let again = world.store.retry(TenantScope::All, job, ids::job_id(START)).await.unwrap();
    assert!(matches!(again, Retried::As(record) if record.job.id == new_id));
    assert!(world.store.list(dead).await.unwrap().jobs.is_empty());
    assert_eq!(world.run(new_id).await.input, Bytes::from_static(b"input"));
}

pub async fn discarded_dead_letters_leave_the_list(world: World) {
    let job = world.submit_one(1).await;
    let attempt = attempt_of(job, &world.run(job).await);
    world.fail(attempt, FailureKind::Permanent).await;
    assert_eq!(world.store.discard(vec![job, ids::job_id(START)]).await.unwrap(), 1);
    assert_eq!(world.store.discard(vec![job]).await.unwrap(), 0);
    let dead = Filter { only_dead_letters: true, ..filter() };
    assert!(world.store.list(dead).await.unwrap().jobs.is_empty());
    assert_eq!(world.state(job).await, StateKind::Failed);
}

pub async fn releases_keep_the_checkpoint_and_cost_nothing(world: World) {
    let job = world.submit_one(4).await;
    let attempt = attempt_of(job, &world.run(job).await);
    let checkpoint = Checkpoint { attempt, parts: vec![part(0, 2, "x")], begun: None };
    let release = Release { checkpoint, reason: ReleaseReason::Draining };
    let outcomes = world.store.release(vec![release.clone(), release]).await.unwrap();
    assert_eq!(outcomes, vec![SettleOutcome::Recorded, SettleOutcome::Fenced]);
    let record = world.store.get(TenantScope::All, job).await.unwrap().unwrap();
    assert_eq!((record.job.spent.failures, record.job.spent.interruptions), (0, 1));
    assert_eq!(world.run(job).await.first_item, 2);
}

pub async fn cancel_stops_what_waits_at_once_and_what_runs_in_time(world: World) {
    let waiting = world.submit_one(1).await;
    let cancelled = world.store.cancel(TenantScope::All, waiting).await.unwrap();
    assert!(matches!(cancelled, Cancelled::Done(_)));
    assert_eq!(world.state(waiting).await, StateKind::Cancelled);

    let running = world.submit_one(1).await;
    let attempt = attempt_of(running, &world.run(running).await);
    world.store.cancel(TenantScope::All, running).await.unwrap();
    assert_eq!(world.heartbeat(attempt, vec![]).await, HeartbeatOutcome::Stop);
    world.pass(10);
    world.store.sweep(10, Vec::new()).await.unwrap();
    assert_eq!(world.state(running).await, StateKind::Cancelled);
    let late = world.complete(attempt, vec![part(0, 1, "late")]).await;
    assert_eq!(late, CompleteOutcome::Terminal);
    assert!(world.store.results(running, 0, 1).await.unwrap().is_empty());

    let done = world.submit_one(1).await;
    let attempt = attempt_of(done, &world.run(done).await);
    world.complete(attempt, vec![part(0, 1, "x")]).await;
    let cancelled = world.store.cancel(TenantScope::All, done).await.unwrap();
    assert!(matches!(cancelled, Cancelled::EndedBefore(_)));
}

pub async fn deadlines_expire_jobs_in_any_state(world: World) {
    let deadline = world.clock.now().after(Duration::from_secs(20));
    let mut jobs = Vec::new();
    for _ in 0..2 {
        jobs.push(world.submit(NewJob { deadline_at: deadline, ..world.new_job(1) }).await);
    }
    let attempt = attempt_of(jobs[0], &world.run(jobs[0]).await);
    assert_eq!(world.store.sweep(10, Vec::new()).await.unwrap().next_due, Some(deadline));
    world.pass(20);
    assert_eq!(world.store.sweep(10, Vec::new()).await.unwrap().changed, 2);
    for job in jobs {
        assert_eq!(world.state(job).await, StateKind::Expired);
    }
    let late = world.complete(attempt, vec![part(0, 1, "late")]).await;
    assert_eq!(late, CompleteOutcome::Terminal);
}

pub async fn messages_stay_in_the_outbox_until_they_are_cleared(world: World) {
    let job = world.submit_one(1).await;
    let first = world.store.dispatch(vec![job]).await.unwrap();
    assert!(world.store.dispatch(vec![job]).await.unwrap().is_empty(), "dispatched once");
    assert_eq!(world.outbox().await, first);
    world.store.clear_outbox(first.clone()).await.unwrap();
    assert!(world.outbox().await.is_empty());
    // Nobody claims it: the message counts as lost and is sent again.
    world.pass(60);
    world.store.sweep(10, Vec::new()).await.unwrap();
    assert_eq!(world.outbox().await, first);
}

pub async fn a_broken_stream_gives_the_job_away_after_the_grace(world: World) {
    let job = world.submit_one(1).await;
    let entry = world.store.dispatch(vec![job]).await.unwrap().pop().unwrap();
    let worker = ids::worker_id();
    let claim = Claim { job, seq: entry.seq, claim: ids::claim_id(), token: ids::lease_token() };
    world.claim(worker, claim).await;
    world.store.disconnect(ids::worker_id()).await.unwrap();
    world.store.disconnect(worker).await.unwrap();
    world.pass(1);
    assert_eq!(world.store.sweep(10, Vec::new()).await.unwrap().changed, 0);
    world.pass(1);
    assert_eq!(world.store.sweep(10, Vec::new()).await.unwrap().changed, 1);
    assert_eq!(world.state(job).await, StateKind::Queued);
}

pub async fn amnesty_gives_every_lease_a_full_life(world: World) {
    let job = world.submit_one(1).await;
    world.run(job).await;
    world.pass(29);
    assert_eq!(world.store.grant_amnesty().await.unwrap(), 1);
    world.pass(29);
    assert_eq!(world.store.sweep(10, Vec::new()).await.unwrap().changed, 0);
    world.pass(1);
    assert_eq!(world.store.sweep(10, Vec::new()).await.unwrap().changed, 1);
}

pub async fn waiting_jobs_come_by_tenant_with_least_slack_first(world: World) {
    let late = world.submit_one(1).await;
    let soon =
        NewJob { start_by: START, class: ClassName::new("fast").unwrap(), ..world.new_job(1) };
    let soon = world.submit(soon).await;
    let other = world.submit(NewJob { tenant: tenant("b"), ..world.new_job(1) }).await;
    world.pass(5);
    let waiting = world.store.waiting(lane(), 10).await.unwrap();
    let heads = |name: &str| {
        let found = waiting.iter().find(|of| of.tenant == tenant(name)).unwrap();
        found.heads.iter().map(|(job, _)| *job).collect::<Vec<_>>()
    };
    assert_eq!(heads("default"), vec![soon, late]);
    assert_eq!(heads("b"), vec![other]);
    assert_eq!(world.store.oldest_waiting(lane()).await.unwrap(), Some(START));
    assert_eq!(world.store.first_start(lane()).await.unwrap(), Some(START), "that of `soon`");
    world.run(soon).await;
    assert!(world.store.first_start(lane()).await.unwrap() > Some(START), "it has started");
    let waiting = world.store.waiting(lane(), 10).await.unwrap();
    let mine = waiting.iter().find(|of| of.tenant == tenant("default")).unwrap();
    assert_eq!(mine.in_flight, 1);
}

pub async fn the_oldest_wait_ends_with_the_first_start(world: World) {
    let oldest = || async { world.store.oldest_waiting(lane()).await.unwrap() };
    assert_eq!(oldest().await, None);
    let first = world.submit_one(1).await;
    world.pass(5);
    let second = world.submit_one(1).await;
    let (grant, entry) = (world.run(second).await, world.store.dispatch(vec![first]).await);
    assert_eq!(entry.unwrap().len(), 1);
    assert_eq!(oldest().await, Some(START), "a dispatched job waits, too");
    assert!(world.store.first_start(lane()).await.unwrap().is_some(), "and has to start");
    world.fail(attempt_of(second, &grant), FailureKind::Retryable).await;
    world.store.cancel(TenantScope::All, first).await.unwrap();
    world.pass(600);
    assert_eq!(world.store.sweep(10, Vec::new()).await.unwrap().changed, 1);
    assert_eq!(world.state(second).await, StateKind::Queued);
    assert_eq!(oldest().await, None, "one that has started waits no more");
    assert!(world.store.first_start(lane()).await.unwrap().is_some(), "but has to start again");
}

pub async fn messages_that_may_be_lost_are_published_again(world: World) {
    let (dispatched, running) = (world.submit_one(1).await, world.submit_one(1).await);
    world.submit_one(1).await;
    world.run(running).await;
    let entries = world.store.dispatch(vec![dispatched]).await.unwrap();
    let all = world.outbox().await;
    world.store.clear_outbox(all).await.unwrap();
    assert_eq!(world.store.republish().await.unwrap(), 1);
    assert_eq!(world.outbox().await, entries);
}

pub async fn an_intact_queue_is_not_sent_its_messages_again(world: World) {
    let job = world.submit_one(1).await;
    let entries = world.store.dispatch(vec![job]).await.unwrap();
    world.store.clear_outbox(entries.clone()).await.unwrap();
    world.pass(60);
    assert_eq!(world.store.sweep(10, vec![lane()]).await.unwrap().changed, 0);
    assert!(world.outbox().await.is_empty());
    world.pass(15);
    assert_eq!(world.store.sweep(10, vec![]).await.unwrap().changed, 1);
    assert_eq!(world.outbox().await, entries, "what was lost meanwhile is sent soon");
}

pub async fn a_deadline_is_kept_in_an_intact_queue(world: World) {
    let deadline_at = world.clock.now().after(Duration::from_secs(62));
    let job = world.submit(NewJob { deadline_at, ..world.new_job(1) }).await;
    world.store.dispatch(vec![job]).await.unwrap();
    world.pass(60);
    let swept = world.store.sweep(10, vec![lane()]).await.unwrap();
    assert_eq!((swept.changed, swept.next_due), (0, Some(deadline_at)));
    world.pass(2);
    assert_eq!(world.store.sweep(10, vec![lane()]).await.unwrap().changed, 1);
    assert_eq!(world.state(job).await, StateKind::Expired);
}

pub async fn the_outbox_is_read_by_queue(world: World) {
    let other = Lane { model: ModelName::new("other").unwrap(), ..lane() };
    let here = world.submit_one(1).await;
    let there = world.submit(NewJob { lane: other.clone(), ..world.new_job(1) }).await;
    world.store.dispatch(vec![here, there]).await.unwrap();
    assert_eq!(world.store.outbox_len().await.unwrap(), 2);
    for (lanes, expected) in
        [(LaneSet::AllBut(vec![other.clone()]), here), (LaneSet::Only(other), there)]
    {
        let found = world.store.outbox(10, lanes).await.unwrap();
        assert_eq!(found.iter().map(|entry| entry.job).collect::<Vec<_>>(), [expected]);
    }
}

pub async fn a_repetition_is_known_by_all_its_keys(world: World) {
    let key = |name: &str, digest| Idempotency { key: name.into(), request_digest: [digest; 32] };
    let new = |of| NewJob { idempotency: Some(of), ..world.new_job(1) };
    let jobs = [world.submit(new(key("a", 1))).await, world.submit(new(key("b", 1))).await];
    let repeated = |tenant, keys| async { world.store.repeated(tenant, keys).await.unwrap() };
    let default = || tenant("default");
    let both = vec![key("a", 1), key("b", 1)];
    assert_eq!(repeated(default(), both.clone()).await, Some(jobs.to_vec()));
    assert_eq!(repeated(default(), vec![key("a", 1), key("c", 1)]).await, None);
    assert_eq!(repeated(default(), vec![key("a", 2)]).await, None, "another request");
    assert_eq!(repeated(tenant("stranger"), both).await, None);
}

pub async fn lists_are_paged_and_filtered(world: World) {
    let mut jobs = Vec::new();
    for number in 0..5 {
        let labels = Labels::from([("n".to_owned(), number.to_string())]);
        jobs.push(world.submit(NewJob { labels, ..world.new_job(1) }).await);
        world.pass(1);
    }
    jobs.reverse();
    let first = world.store.list(Filter { limit: 3, ..filter() }).await.unwrap();
    let rest = Filter { before: first.next, limit: 3, ..filter() };
    let rest = world.store.list(rest).await.unwrap();
    let ids = first.jobs.iter().chain(&rest.jobs).map(|record| record.job.id);
    assert_eq!(ids.collect::<Vec<_>>(), jobs);
    assert_eq!(rest.next, None);

    let labels = Labels::from([("n".to_owned(), "2".to_owned())]);
    let labeled = world.store.list(Filter { labels, ..filter() }).await.unwrap();
    assert_eq!(labeled.jobs.len(), 1);
    world.store.cancel(TenantScope::All, jobs[0]).await.unwrap();
    let states = vec![StateKind::Cancelled];
    let cancelled = world.store.list(Filter { states, ..filter() }).await.unwrap();
    assert_eq!(cancelled.jobs[0].job.id, jobs[0]);
    let model = Some(ModelName::new("other").unwrap());
    assert!(world.store.list(Filter { model, ..filter() }).await.unwrap().jobs.is_empty());
    let accepted_after = Some(START.after(Duration::from_secs(3)));
    let newest = world.store.list(Filter { accepted_after, ..filter() }).await.unwrap();
    assert_eq!(newest.jobs.len(), 2);
}

pub async fn retention_removes_results_first_and_jobs_later(world: World) {
    let key = Some(Idempotency { key: "k".into(), request_digest: [1; 32] });
    let job = world.submit(NewJob { idempotency: key.clone(), ..world.new_job(1) }).await;
    let attempt = attempt_of(job, &world.run(job).await);
    world.complete(attempt, vec![part(0, 1, "x")]).await;
    let open = world.submit_one(1).await;
    world.pass(10);
    let (now, past) = (world.clock.now(), START);
    assert_eq!(world.store.expire_retention(now, past, 10).await.unwrap(), 1);
    assert_eq!(world.store.expire_retention(now, past, 10).await.unwrap(), 0);
    assert!(world.store.results(job, 0, 1).await.unwrap().is_empty());
    assert_eq!(world.state(job).await, StateKind::Succeeded);
    assert_eq!(world.store.expire_retention(now, now, 10).await.unwrap(), 1);
    assert!(world.store.get(TenantScope::All, job).await.unwrap().is_none());
    assert_eq!(world.state(open).await, StateKind::Queued);
    let again = NewJob { idempotency: key, ..world.new_job(1) };
    assert!(world.store.submit(vec![again]).await.unwrap()[0].created, "the key is free again");
}

pub async fn counts_follow_every_change(world: World) {
    let count = |state| world.store.counts().of_lane(&lane()).get(state);
    let job = world.submit_one(1).await;
    world.submit_one(1).await;
    assert_eq!(count(StateKind::Queued), 2);
    let attempt = attempt_of(job, &world.run(job).await);
    assert_eq!((count(StateKind::Queued), count(StateKind::Leased)), (1, 1));
    world.complete(attempt, vec![part(0, 1, "x")]).await;
    assert_eq!(world.store.counts().total().open(), 1);
    let now = world.clock.now().after(Duration::from_secs(1));
    world.store.expire_retention(now, now, 10).await.unwrap();
    assert_eq!(count(StateKind::Succeeded), 0);
}
