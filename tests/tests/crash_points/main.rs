//! A process dies at each step of the protocol (K1 to K12 of the fault matrix): no job is lost, none is
//! made twice, and every result is whole.
//!
//! The points are in the code, as `stoker_runtime::crash`; a test of the table below holds that none is
//! forgotten here.

mod drill;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use stoker_proto::v1::{CancelRequest, JobState, ListRequest};
use stoker_tests::fleet::{Fleet, PATIENCE};
use stoker_tests::poll;

use crate::drill::{Drill, Ground};

/// What brings a process to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Story {
    /// Jobs are submitted and run.
    Jobs,
    /// The coordinator starts while jobs wait and run.
    Restart,
    /// Results have been kept for as long as they are.
    Old,
    /// A job is cancelled while it runs.
    Cancel,
    /// A worker is asked to stop while it runs jobs.
    Drain,
    /// A worker is killed while it runs jobs.
    Kill,
    /// An engine is killed while it runs jobs.
    Crash,
    /// A cancelled job is run again.
    Retry,
}

/// Each point of the coordinator, the pass at which it dies, and the story.
const COORDINATOR: [(&str, u32, Story); 34] = [
    ("submit.before", 3, Story::Jobs),
    ("submit.after", 3, Story::Jobs),
    ("dispatch.before", 2, Story::Jobs),
    ("dispatch.after", 2, Story::Jobs),
    ("publish.before", 2, Story::Jobs),
    ("publish.after", 2, Story::Jobs),
    ("clear_outbox.before", 2, Story::Jobs),
    ("clear_outbox.after", 2, Story::Jobs),
    ("claim.before", 2, Story::Jobs),
    ("claim.after", 2, Story::Jobs),
    ("heartbeat.before", 2, Story::Jobs),
    ("heartbeat.after", 2, Story::Jobs),
    ("complete.before", 2, Story::Jobs),
    ("complete.after", 2, Story::Jobs),
    ("events.before", 9, Story::Jobs),
    ("events.after", 9, Story::Jobs),
    ("amnesty.before", 1, Story::Restart),
    ("amnesty.after", 1, Story::Restart),
    ("sweep.before", 3, Story::Kill),
    ("sweep.after", 3, Story::Kill),
    ("retention.before", 1, Story::Old),
    ("retention.after", 1, Story::Old),
    ("republish.before", 1, Story::Restart),
    ("republish.after", 1, Story::Restart),
    ("cancel.before", 1, Story::Cancel),
    ("cancel.after", 1, Story::Cancel),
    ("release.before", 1, Story::Drain),
    ("release.after", 1, Story::Drain),
    ("disconnect.before", 1, Story::Kill),
    ("disconnect.after", 1, Story::Kill),
    ("fail.before", 1, Story::Crash),
    ("fail.after", 1, Story::Crash),
    ("retry.before", 1, Story::Retry),
    ("retry.after", 1, Story::Retry),
];

/// Each point of the worker, the pass at which it dies, the story, and how many attempts a job may take then.
const WORKER: [(&str, u32, Story, u32); 12] = [
    // Received, but not claimed: no attempt is used.
    ("worker.claim.before", 1, Story::Jobs, 1),
    ("worker.claim.after", 1, Story::Jobs, 2),
    ("worker.heartbeat.before", 2, Story::Jobs, 2),
    ("worker.heartbeat.after", 2, Story::Jobs, 2),
    ("worker.complete.before", 1, Story::Jobs, 2),
    // Stored, but not acknowledged: the redelivery finds the end of the job.
    ("worker.complete.after", 1, Story::Jobs, 2),
    ("worker.ack.before", 1, Story::Jobs, 2),
    ("worker.ack.after", 1, Story::Jobs, 2),
    ("worker.fail.before", 1, Story::Crash, 3),
    ("worker.fail.after", 1, Story::Crash, 3),
    ("worker.release.before", 1, Story::Drain, 2),
    ("worker.release.after", 1, Story::Drain, 2),
];

/// Points behind which a job is stored as ended and its message is not acknowledged.
const NOT_ACKNOWLEDGED: [&str; 2] = ["worker.complete.after", "worker.ack.before"];

async fn coordinator_dies_at(point: &str, ground: Ground) -> anyhow::Result<()> {
    let known = COORDINATOR.iter().find(|(name, _, _)| *name == point);
    let (_, pass, story) = *known.context("no such point")?;
    let mut drill = Drill::start(point, ground).await?;
    drill.fleet.add_worker_with(&[("STOKER_GRACE", "500ms")])?;
    drill.fleet.ready(1).await?;
    if story == Story::Restart || story == Story::Old {
        drill.submit_all().await?;
        drill.some_run().await?;
    }
    if story == Story::Old {
        drill.holds(1, 0).await?;
        drill.forget_results_soon()?;
    }
    drill.arm(&format!("{point}@{pass}")).await?;
    if story != Story::Restart && story != Story::Old {
        drill.submit_all().await?;
    }
    drill.act(story).await?;
    if story == Story::Retry {
        retry_the_cancelled(&mut drill).await?;
    }
    drill.comes_back().await?;
    let (attempts, others) = match story {
        Story::Old => return drill.results_are_forgotten().await,
        Story::Jobs | Story::Restart => (1, 0),
        Story::Cancel => (1, 1),
        Story::Retry => (1, 2),
        Story::Drain | Story::Kill => (2, 0),
        Story::Crash => (3, 0),
    };
    drill.holds(attempts, others).await
}

/// However often it is asked for, there is one new job.
async fn retry_the_cancelled(drill: &mut Drill) -> anyhow::Result<()> {
    let listed = async |fleet: &Fleet| {
        let states = vec![JobState::Cancelled.into()];
        let request = ListRequest { states, ..ListRequest::default() };
        Ok(fleet.jobs().await?.list(request).await?.into_inner().jobs)
    };
    let cancelled = drill.insist("listing", listed).await?;
    let job_id = cancelled.first().context("nothing was cancelled")?.id.clone();
    let retry = async |fleet: &Fleet| {
        let request = stoker_proto::v1::RetryRequest { job_id: job_id.clone() };
        let answer = fleet.jobs().await?.retry(request).await?.into_inner();
        Ok(answer.job.context("an answer without a job")?.id)
    };
    let first = drill.insist("retrying", retry).await?;
    let again = drill.insist("retrying", retry).await?;
    ensure!(first == again, "two jobs of one retry");
    let cancel = async |fleet: &Fleet| {
        let request = CancelRequest { job_id: first.clone() };
        Ok(fleet.jobs().await?.cancel(request).await?)
    };
    drill.insist("cancelling", cancel).await?;
    drill.reaches(&first, &[JobState::Cancelled]).await
}

async fn worker_dies_at(point: &str, ground: Ground) -> anyhow::Result<()> {
    let known = WORKER.iter().find(|(name, _, _, _)| *name == point);
    let (_, pass, story, attempts) = *known.context("no such point")?;
    let mut drill = Drill::start(point, ground).await?;
    let value = format!("{point}@{pass}");
    let environment = [("STOKER_CRASH_POINT", value.as_str()), ("STOKER_GRACE", "500ms")];
    drill.fleet.add_worker_with(&environment)?;
    drill.submit_all().await?;
    drill.act(story).await?;
    let status = drill.fleet.worker(0).wait(PATIENCE).await?;
    ensure!(status.signal() == Some(9), "{status}: {}", drill.fleet.worker(0).log_tail());
    let ended = drill.succeeded().await?;
    let after = drill.fleet.add_worker_with(&[("STOKER_LOG", "stoker_worker=debug,info")])?;
    drill.holds(attempts, 0).await?;
    if NOT_ACKNOWLEDGED.contains(&point) {
        ensure!(!ended.is_empty(), "it died before it had completed a job");
        let worker = drill.fleet.worker(after);
        poll::until("the redelivery to be refused", PATIENCE, || async {
            let log = worker.log();
            let refused = |line: &str| line.contains("claim refused") && line.contains("Terminal");
            Ok(if log.lines().any(refused) { Ok(()) } else { Err("not refused".to_owned()) })
        })
        .await?;
    }
    // What had ended did not run again.
    for job in ended {
        ensure!(drill.fleet.job(&job.id).await? == job, "it ran again: {job:?}");
    }
    Ok(())
}

/// A test of each point on each of these grounds.
macro_rules! deaths {
    ($dies_at:ident $list:ident: $($test:ident $point:literal)*) => {
        const $list: &[&str] = &[$($point),*];
        $(
        mod $test {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite_and_embedded() -> anyhow::Result<()> {
                $dies_at($point, Ground::Small).await
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres_and_rabbitmq() -> anyhow::Result<()> {
                $dies_at($point, Ground::Large).await
            }
        }
        )*
    };
}

deaths! {
    coordinator_dies_at OF_COORDINATOR:
    coordinator_dies_before_submit "submit.before"
    coordinator_dies_after_submit "submit.after"
    coordinator_dies_before_dispatch "dispatch.before"
    coordinator_dies_after_dispatch "dispatch.after"
    coordinator_dies_before_publish "publish.before"
    coordinator_dies_after_publish "publish.after"
    coordinator_dies_before_clear_outbox "clear_outbox.before"
    coordinator_dies_after_clear_outbox "clear_outbox.after"
    coordinator_dies_before_claim "claim.before"
    coordinator_dies_after_claim "claim.after"
    coordinator_dies_before_heartbeat "heartbeat.before"
    coordinator_dies_after_heartbeat "heartbeat.after"
    coordinator_dies_before_complete "complete.before"
    coordinator_dies_after_complete "complete.after"
    coordinator_dies_before_events "events.before"
    coordinator_dies_after_events "events.after"
    coordinator_dies_before_amnesty "amnesty.before"
    coordinator_dies_after_amnesty "amnesty.after"
    coordinator_dies_before_sweep "sweep.before"
    coordinator_dies_after_sweep "sweep.after"
    coordinator_dies_before_retention "retention.before"
    coordinator_dies_after_retention "retention.after"
    coordinator_dies_before_cancel "cancel.before"
    coordinator_dies_after_cancel "cancel.after"
    coordinator_dies_before_release "release.before"
    coordinator_dies_after_release "release.after"
    coordinator_dies_before_disconnect "disconnect.before"
    coordinator_dies_after_disconnect "disconnect.after"
    coordinator_dies_before_fail "fail.before"
    coordinator_dies_after_fail "fail.after"
    coordinator_dies_before_retry "retry.before"
    coordinator_dies_after_retry "retry.after"
}

/// A broker of its own keeps its messages when the coordinator dies.
const OF_EMBEDDED_BROKER: &[&str] = &["republish.before", "republish.after"];

#[tokio::test(flavor = "multi_thread")]
async fn coordinator_dies_before_republish() -> anyhow::Result<()> {
    coordinator_dies_at("republish.before", Ground::Small).await
}

#[tokio::test(flavor = "multi_thread")]
async fn coordinator_dies_after_republish() -> anyhow::Result<()> {
    coordinator_dies_at("republish.after", Ground::Small).await
}

deaths! {
    worker_dies_at OF_WORKER:
    worker_dies_before_claim "worker.claim.before"
    worker_dies_after_claim "worker.claim.after"
    worker_dies_before_heartbeat "worker.heartbeat.before"
    worker_dies_after_heartbeat "worker.heartbeat.after"
    worker_dies_before_complete "worker.complete.before"
    worker_dies_after_complete "worker.complete.after"
    worker_dies_before_ack "worker.ack.before"
    worker_dies_after_ack "worker.ack.after"
    worker_dies_before_fail "worker.fail.before"
    worker_dies_after_fail "worker.fail.after"
    worker_dies_before_release "worker.release.before"
    worker_dies_after_release "worker.release.after"
}

/// The names in the code are those of the tables.
#[test]
fn no_point_is_forgotten() -> anyhow::Result<()> {
    let mut found = BTreeSet::new();
    for folder in ["../coordinator/src", "../worker/src", "../broker/src"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found)?;
    }
    let tables = COORDINATOR.iter().map(|(name, _, _)| *name);
    let tables = tables.chain(WORKER.iter().map(|(name, ..)| *name));
    let steps = tables.filter_map(|name| name.rsplit_once('.')).map(|(step, _)| step);
    let known: BTreeSet<String> = steps.map(str::to_owned).collect();
    assert_eq!(found, known);
    // Both sides of each step are in the tables, and each has its test.
    for (table, tests) in [
        (
            COORDINATOR.map(|(name, _, _)| name).to_vec(),
            [OF_COORDINATOR, OF_EMBEDDED_BROKER].concat(),
        ),
        (WORKER.map(|(name, ..)| name).to_vec(), OF_WORKER.to_vec()),
    ] {
        let sides = |name: &&str| {
            let step = name.rsplit_once('.').map_or("", |(step, _)| step);
            ["before", "after"].map(|side| format!("{step}.{side}"))
        };
        let wanted: BTreeSet<String> = table.iter().flat_map(sides).collect();
        let tested: BTreeSet<String> = tests.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(wanted, tested);
        assert_eq!(table.len(), tested.len());
    }
    Ok(())
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        for (call, is_step) in [("crash::around(\"", true), ("crash::point(\"", false)] {
            for rest in text.split(call).skip(1) {
                let name = rest.split('"').next().unwrap_or_default();
                let step = if is_step { Some(name) } else { name.rsplit_once('.').map(|of| of.0) };
                found.insert(step.context("a point without a step")?.to_owned());
            }
        }
    }
    Ok(())
}
