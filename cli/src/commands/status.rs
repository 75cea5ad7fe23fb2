//! `stoker status`: the fleet on one screen.

use std::time::Duration;

use stoker_core::units::HumanDuration;
use stoker_proto::v1;
use stoker_runtime::clock::Clock as _;

use crate::client::Client;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::fleet::{self, Snapshot};

/// Faster looks would only cost the coordinator work.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);

/// Show how the fleet is: jobs, queues, workers, broker.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Look again every so often, until interrupted
    #[arg(long, short, value_name = "TIME", num_args = 0..=1, default_missing_value = "2s")]
    watch: Option<HumanDuration>,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let Some(interval) = args.watch else {
        let snapshot = look(&context.client).await?;
        return print(&snapshot, context);
    };
    let interval = interval.get().max(SHORTEST_INTERVAL);
    loop {
        match look(&context.client).await {
            Ok(snapshot) => print_again(&snapshot, context)?,
            // Whoever watches wants to see it come back.
            Err(failure) if failure.exit() == Exit::Unreachable => failure.report(),
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(interval).await;
    }
}

async fn look(client: &Client) -> Result<Snapshot, Failure> {
    let fleet = client.fleet_status(v1::FleetStatusRequest {}).await?;
    let queues = client.list_queues(v1::ListQueuesRequest {}).await?.queues;
    let workers = client.list_workers(v1::ListWorkersRequest {}).await?.workers;
    Ok(Snapshot { fleet, queues, workers })
}

fn print(snapshot: &Snapshot, context: &mut Context) -> Result<(), Failure> {
    if context.terminal.is_json() {
        return context.terminal.json(&fleet::document(snapshot));
    }
    let page = fleet::page(snapshot, context.client.server(), context.clock.now());
    context.terminal.block(&page)
}

fn print_again(snapshot: &Snapshot, context: &mut Context) -> Result<(), Failure> {
    const CLEAR_SCREEN: &str = "\x1b[H\x1b[2J";
    if context.terminal.is_json() {
        return context.terminal.json_line(&fleet::document(snapshot));
    }
    if context.terminal.out_is_terminal() {
        context.terminal.block(CLEAR_SCREEN)?;
    }
    print(snapshot, context)?;
    if !context.terminal.out_is_terminal() {
        context.terminal.line("")?;
    }
    context.terminal.flush()
}
