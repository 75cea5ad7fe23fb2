//! `stoker get`: one job in full.

use serde::Serialize;
use stoker_proto::v1;
use stoker_runtime::clock::Clock as _;

use crate::context::Context;
use crate::failure::Failure;
use crate::render::job::{self, JobDocument};

/// Show a job, and why it waits.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the job
    id: String,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    job: JobDocument<'a>,
    waiting_for: Option<&'a str>,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let answer = context.client.get(v1::GetRequest { job_id: args.id }).await?;
    let job = answer.job.ok_or_else(|| context.client.malformed("get the job"))?;
    let waiting_for = answer.waiting_for.as_str();
    if context.terminal.is_json() {
        let waiting_for = (!waiting_for.is_empty()).then_some(waiting_for);
        return context.terminal.json(&Document { job: job::document(&job), waiting_for });
    }
    let details = job::details(&job, waiting_for, context.clock.now());
    context.terminal.block(&details)
}
