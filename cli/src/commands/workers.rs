//! `stoker workers`: who works, and taking them out of service and back.

use clap::Subcommand;
use stoker_core::units::HumanDuration;
use stoker_proto::v1;
use stoker_runtime::clock::Clock as _;

use crate::context::Context;
use crate::failure::Failure;
use crate::render::time::duration_to_wire;
use crate::render::worker;
use crate::terminal::note;

/// List workers, take them out of service and back.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List workers; what `stoker workers` alone does
    List,
    /// Give a worker no new work; it goes on with what it runs
    Cordon {
        /// Id of the worker
        id: String,
        /// Give it new work again
        #[arg(long)]
        undo: bool,
    },
    /// Let a worker finish or hand back what it runs, then exit
    Drain {
        /// Id of the worker
        id: String,
        /// Time to finish in [default: the worker's own]
        #[arg(long, value_name = "TIME")]
        within: Option<HumanDuration>,
    },
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    match args.command.unwrap_or(Verb::List) {
        Verb::List => list(context).await,
        Verb::Cordon { id, undo } => {
            let request = v1::CordonWorkerRequest { worker_id: id, cordoned: !undo };
            let answer = context.client.cordon_worker(request).await?;
            changed(answer.worker, "cordon the worker", context)
        }
        Verb::Drain { id, within } => {
            let within = within.map(|within| duration_to_wire(within.get()));
            let request = v1::DrainWorkerRequest { worker_id: id, within };
            let answer = context.client.drain_worker(request).await?;
            changed(answer.worker, "drain the worker", context)
        }
    }
}

async fn list(context: &mut Context) -> Result<(), Failure> {
    let workers = context.client.list_workers(v1::ListWorkersRequest {}).await?.workers;
    if context.terminal.is_json() {
        let documents: Vec<_> = workers.iter().map(worker::document).collect();
        return context.terminal.json(&serde_json::json!({ "workers": documents }));
    }
    if workers.is_empty() {
        note("no workers");
        return Ok(());
    }
    let rows = worker::rows(&workers, context.clock.now());
    context.terminal.block(&rows)?;
    match worker::seats(&workers) {
        Some(seats) => context.terminal.block(&format!("\n{seats}")),
        None => Ok(()),
    }
}

fn changed(worker: Option<v1::Worker>, what: &str, context: &mut Context) -> Result<(), Failure> {
    let worker = worker.ok_or_else(|| context.client.malformed(what))?;
    if context.terminal.is_json() {
        return context.terminal.json(&worker::document(&worker));
    }
    let rows = worker::rows(&[worker], context.clock.now());
    context.terminal.block(&rows)
}
