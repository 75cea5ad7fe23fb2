//! `stoker cancel`: asks jobs to stop.

use stoker_proto::v1;

use super::each::for_each;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::job;

/// Cancel jobs.
///
/// A job that runs is asked to stop and ends a moment later. All jobs are tried; the exit code is
/// that of the first that could not be cancelled.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids of the jobs
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    for_each(args.ids, context, async |id, context| {
        let answer = context.client.cancel(v1::CancelRequest { job_id: id }).await?;
        let job = answer.job.ok_or_else(|| context.client.malformed("cancel the job"))?;
        if context.terminal.is_json() {
            context.terminal.json_line(&job::document(&job))
        } else {
            let asked = if job.cancel_requested { "  asked to stop" } else { "" };
            context.terminal.line(&format!("{}{asked}", job::change(&job)))
        }
    })
    .await
}
