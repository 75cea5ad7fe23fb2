//! `stoker version`: of this command and of the coordinator.

use crate::context::Context;
use crate::failure::Failure;
use crate::render::table::pairs;
use crate::terminal::note;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Print the versions of this command and of the coordinator.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(Args {}: Args, context: &mut Context) -> Result<(), Failure> {
    let coordinator = context.client.probe().await.map(|status| status.version);
    if context.terminal.is_json() {
        let document = serde_json::json!({ "stoker": VERSION, "coordinator": coordinator });
        return context.terminal.json(&document);
    }
    let mut lines = vec![("stoker", VERSION.to_owned())];
    match coordinator {
        Some(version) => lines.push(("coordinator", version)),
        None => note(&format!("no coordinator answers at {}", context.client.server())),
    }
    context.terminal.block(&pairs(lines))
}
