//! Those who watch jobs, while the system is under fire: what has ended never changes again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use stoker_proto::v1::{Job, WatchRequest};
use tokio::time::{Instant, sleep, timeout};

use super::{CALL_LIMIT, Jobs, PAUSE, Shared, connect};
use crate::chaos::verdict::{self, Findings};

/// Jobs that one call watches.
const WATCHED: usize = 20;

/// Watches some jobs at random, and then others.
pub(super) async fn watch(address: String, shared: Arc<Shared>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    while !shared.done.load(Ordering::Relaxed) {
        sleep(PAUSE).await;
        let Some(jobs) = connect(&address).await else { continue };
        let picked = |_| shared.history().any(&mut random);
        let mut job_ids: Vec<String> = (0..WATCHED).filter_map(picked).collect();
        job_ids.sort_unstable();
        job_ids.dedup();
        if !job_ids.is_empty() {
            follow(jobs, job_ids, &shared).await;
        }
    }
}

/// Until all have ended, the stream breaks, or nothing is said for as long as a call may take.
async fn follow(mut jobs: Jobs, job_ids: Vec<String>, shared: &Shared) {
    let give_up = Instant::now() + CALL_LIMIT;
    let request = WatchRequest { job_ids, texts: false };
    let Ok(Ok(stream)) = timeout(CALL_LIMIT, jobs.watch(request)).await else { return };
    let mut stream = stream.into_inner();
    let mut last: BTreeMap<String, Job> = BTreeMap::new();
    while let Ok(Ok(Some(news))) =
        timeout(give_up.saturating_duration_since(Instant::now()), stream.message()).await
    {
        let Some(job) = news.job else { continue };
        let mut findings = Findings::default();
        if let Some(before) = last.get(&job.id) {
            verdict::went_on(before, &job, &mut findings);
        }
        let mut history = shared.history();
        if verdict::is_terminal(job.state()) && history.accepted.contains_key(&job.id) {
            let told = history.ended.entry(job.id.clone()).or_insert_with(|| job.clone());
            verdict::same_end(told, &job, &mut findings);
        }
        history.findings.extend(findings);
        last.insert(job.id.clone(), job);
    }
}
