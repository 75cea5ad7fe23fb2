//! A deep queue: what it costs, and what it does to the latency of everything else.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use stoker_proto::v1::ListQueuesRequest;

use crate::fleet::Fleet;

use super::sample::{Sample, round};
use super::{claims, submit};

/// Measures submits and claims on an empty queue, again with `jobs` jobs waiting, and what they
/// take of memory and disk.
///
/// # Errors
/// When a call fails.
pub async fn run(fleet: &mut Fleet, jobs: usize) -> anyhow::Result<Value> {
    let empty = latencies(fleet).await?;
    let memory_before = resident_bytes(fleet)?;
    let began = Instant::now();
    fill(fleet, jobs).await?;
    let filling = began.elapsed();
    let waiting = waiting(fleet).await?;
    let full = latencies(fleet).await?;
    let mut store = 0;
    for name in ["stoker.db", "stoker.db-wal"] {
        let file = fleet.folder().join("data").join(name);
        store += file.metadata().with_context(|| file.display().to_string())?.len();
    }
    Ok(json!({
        "jobs": waiting,
        "fill_seconds": round(filling.as_secs_f64(), 1),
        "coordinator_rss_before_bytes": memory_before,
        "coordinator_rss_bytes": resident_bytes(fleet)?,
        "store_bytes": store,
        "empty": empty.to_json(),
        "full": full.to_json(),
        "submit_p99_ratio": round(full.submit.millis(0.99) / empty.submit.millis(0.99), 2),
        "claim_p99_ratio": round(full.claim.millis(0.99) / empty.claim.millis(0.99), 2),
    }))
}

struct Latencies {
    submit: Sample,
    claim: Sample,
}

impl Latencies {
    fn to_json(&self) -> Value {
        json!({ "submit": self.submit.to_json(), "claim": self.claim.to_json() })
    }
}

async fn latencies(fleet: &Fleet) -> anyhow::Result<Latencies> {
    // As many claims as submits, so that an empty queue is empty again.
    const CALLS: usize = 2_000;
    // One client: the latency of a call, not of a queue of calls.
    let submit = submit::in_turn(fleet, CALLS, 1024).await?;
    let claim = claims::run(fleet, CALLS).await?;
    Ok(Latencies { submit, claim })
}

/// Jobs that have not ended.
pub(super) async fn waiting(fleet: &Fleet) -> anyhow::Result<u64> {
    let request = ListQueuesRequest {};
    let queues = fleet.admin().await?.list_queues(request).await?.into_inner().queues;
    Ok(queues.iter().map(|queue| queue.queued + queue.dispatched + queue.leased).sum())
}

async fn fill(fleet: &Fleet, jobs: usize) -> anyhow::Result<()> {
    const CALL: usize = 500;
    let mut left = jobs;
    while left > 0 {
        let sample =
            submit::batches(fleet, 4, (CALL.min(left), 1024), Duration::from_secs(1)).await?;
        let submitted = usize::try_from(sample.count())?.saturating_mul(CALL.min(left));
        left = left.saturating_sub(submitted);
    }
    Ok(())
}

fn resident_bytes(fleet: &mut Fleet) -> anyhow::Result<u64> {
    let path = format!("/proc/{}/status", fleet.coordinator().pid());
    let status = std::fs::read_to_string(Path::new(&path)).context("reading process status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: u64 = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("a process status without VmRSS")?
        .parse()?;
    Ok(kibibytes * 1024)
}
