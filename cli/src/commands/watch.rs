//! `stoker watch`: each change of some jobs, until all have ended.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use stoker_proto::v1;

use super::submit::outcome;
use crate::client::{self, Coordinator, Update, Wanted};
use crate::context::Context;
use crate::failure::Failure;
use crate::reading::{MOST_READ, Reading};
use crate::render::job;

/// Follow jobs until they end.
///
/// Prints a line for each change; with `--output json`, a document per line. Of a single job that
/// generates at most 16 texts it shows these, too, as they come. Goes on after a restart of the
/// coordinator. Exits with 1 if a job did not succeed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids of the jobs
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut items = None;
    if let [id] = args.ids.as_slice()
        && !context.terminal.is_json()
    {
        let answer = context.client.get(v1::GetRequest { job_id: id.clone() }).await?;
        items = answer.job.map(|job| job.items_total).filter(|items| *items <= MOST_READ);
    }
    let jobs = match items {
        Some(items) => read_along(&args.ids, items, context).await?,
        None => states(&args.ids, context).await?,
    };
    outcome(&jobs)
}

/// The changes of all jobs.
async fn states(ids: &[String], context: &mut Context) -> Result<Vec<v1::Job>, Failure> {
    let mut updates = client::watch(&context.client, ids, Coordinator::Unknown);
    let mut last: BTreeMap<String, v1::Job> = BTreeMap::new();
    while let Some(job) = updates.next().await {
        let job = job?;
        // After a reconnect the present state comes again.
        if last.get(&job.id) != Some(&job) {
            if context.terminal.is_json() {
                context.terminal.json_line(&job::document(&job))?;
            } else {
                context.terminal.line(&job::change(&job))?;
                context.terminal.flush()?;
            }
            last.insert(job.id.clone(), job);
        }
    }
    Ok(last.into_values().collect())
}

/// One job with so many items: its changes, and its texts between them.
async fn read_along(
    ids: &[String],
    items: u32,
    context: &mut Context,
) -> Result<Vec<v1::Job>, Failure> {
    let mut updates = client::follow(&context.client, ids, Coordinator::Known, Wanted::Texts);
    let mut reading = Reading::new(&mut context.terminal, items);
    let mut last: Option<v1::Job> = None;
    while let Some(update) = updates.next().await {
        match update? {
            Update::Texts(news) => reading.texts(&news)?,
            // After a reconnect the present state comes again.
            Update::Job(job) if last.as_ref() == Some(&*job) => {}
            Update::Job(job) => {
                if job.state == v1::JobState::Succeeded as i32 && reading.has_begun() {
                    reading.finish(&job.id, &context.client).await?;
                }
                reading.line(&job::change(&job))?;
                last = Some(*job);
            }
        }
    }
    Ok(last.into_iter().collect())
}
