//! `stoker retry`: a new job with the input of one that did not succeed.

use stoker_proto::v1;

use crate::context::Context;
use crate::failure::Failure;
use crate::render::job;

/// Run a job again that failed, expired or was cancelled.
///
/// Prints the id of the new job. Repeating the command gives the same new job.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the job
    id: String,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let answer = context.client.retry(v1::RetryRequest { job_id: args.id }).await?;
    let job = answer.job.ok_or_else(|| context.client.malformed("retry the job"))?;
    if context.terminal.is_json() {
        context.terminal.json(&job::document(&job))
    } else {
        context.terminal.line(&job.id)
    }
}
