//! `stoker queues`: how much waits, and why.

use stoker_proto::v1;

use crate::context::Context;
use crate::failure::Failure;
use crate::render::queue;
use crate::terminal::note;

/// Show how much work waits for each model, and why.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(Args {}: Args, context: &mut Context) -> Result<(), Failure> {
    let queues = context.client.list_queues(v1::ListQueuesRequest {}).await?.queues;
    if context.terminal.is_json() {
        let documents: Vec<_> = queues.iter().map(queue::document).collect();
        return context.terminal.json(&serde_json::json!({ "queues": documents }));
    }
    if queues.is_empty() {
        note("no queues");
        return Ok(());
    }
    context.terminal.block(&queue::rows(&queues))
}
