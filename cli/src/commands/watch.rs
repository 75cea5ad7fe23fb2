//! `stoker watch`: each change of some jobs, until all have ended.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use stoker_proto::v1;

use super::submit::outcome;
use crate::client::{self, Coordinator};
use crate::context::Context;
use crate::failure::Failure;
use crate::render::job;

/// Follow jobs until they end.
///
/// Prints a line for each change; with `--output json`, a document per line. Goes on after a
/// restart of the coordinator. Exits with 1 if a job did not succeed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids of the jobs
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut updates = client::watch(&context.client, &args.ids, Coordinator::Unknown);
    let mut last: BTreeMap<String, v1::Job> = BTreeMap::new();
    while let Some(job) = updates.next().await {
        let job = job?;
        // After a reconnect the present state comes again.
        if last.get(&job.id) == Some(&job) {
            continue;
        }
        if context.terminal.is_json() {
            context.terminal.json_line(&job::document(&job))?;
        } else {
            context.terminal.line(&job::change(&job))?;
            context.terminal.flush()?;
        }
        last.insert(job.id.clone(), job);
    }
    outcome(&last.into_values().collect::<Vec<_>>())
}
