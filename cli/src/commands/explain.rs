//! `stoker explain`: why a job waits, or what became of it.

use std::time::Duration;

use stoker_core::fleet::ledger::{Entry, State};
use stoker_core::time::Timestamp;
use stoker_proto::v1;
use stoker_runtime::clock::Clock as _;

use crate::client::LedgerView;
use crate::context::Context;
use crate::explanation::{Buying, Facts, verdict};
use crate::failure::Failure;
use crate::render::explanation;
use crate::render::machine::age;
use crate::render::time::from_wire;

/// A machine that was refused longer ago says nothing about now.
const REFUSED_LATELY: Duration = Duration::from_hours(1);

/// Say why a job waits or what became of it, with times.
///
/// The first lines are the verdict and what to do about it. Then follow the job's times and timers,
/// what waits in its queue by tenant and class with what goes first, the workers that serve its
/// model, and each attempt with its worker, its duration and its end. It is an operator's view: of
/// a job of any tenant.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the job
    #[arg(value_name = "JOB")]
    id: String,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = &context.client;
    let answer = client.explain_job(v1::ExplainJobRequest { job_id: args.id }).await?;
    let incomplete = || client.malformed("explain the job");
    let job = answer.job.as_ref().ok_or_else(incomplete)?;
    let now = from_wire(answer.observed_at.as_ref()).ok_or_else(incomplete)?;
    let workers = client.list_workers(v1::ListWorkersRequest {}).await?.workers;
    // The job can be explained without it; only what is bought is then not told.
    let ledger = client.ledger(context.clock.now().before(REFUSED_LATELY)).await.ok();
    let buying = ledger.map(|ledger| buying(&ledger, &job.pool));
    let facts = Facts { answer: &answer, job, now, workers: &workers, buying: buying.as_ref() };
    let verdict = verdict(&facts);
    if context.terminal.is_json() {
        return context.terminal.json(&explanation::document(&facts, &verdict));
    }
    context.terminal.block(&explanation::page(&facts, &verdict))
}

/// What the ledger says about a pool.
fn buying(ledger: &LedgerView, pool: &str) -> Buying {
    let of_pool = |entry: &&Entry| entry.order.pool.as_str() == pool;
    let booting = |entry: &&Entry| {
        matches!(entry.state, State::Intended | State::Requested { .. } | State::Launched { .. })
    };
    let on_their_way: Vec<&Entry> = ledger.open().filter(of_pool).filter(booting).collect();
    let oldest = on_their_way.iter().map(|entry| age(entry, ledger.read_at)).max();
    let came =
        ledger.entries.values().filter(of_pool).filter_map(|entry| entry.times.launched).max();
    let refused = ledger.entries.values().filter(of_pool).filter_map(refusal).max();
    let refused = refused.filter(|(at, _)| came.is_none_or(|came| came < *at));
    Buying {
        switch: ledger.switch.clone(),
        on_their_way: u32::try_from(on_their_way.len()).unwrap_or(u32::MAX),
        oldest: oldest.unwrap_or_default(),
        refused: refused.map(|(_, why)| why),
    }
}

/// When and why it never came to be.
fn refusal(entry: &Entry) -> Option<(Timestamp, String)> {
    match &entry.state {
        State::Failed { class, why } => {
            Some((entry.times.ended?, format!("{}: {why}", class.name())))
        }
        State::Intended
        | State::Requested { .. }
        | State::Launched { .. }
        | State::Ready { .. }
        | State::Draining { .. }
        | State::Terminating { .. }
        | State::Gone { .. } => None,
    }
}
