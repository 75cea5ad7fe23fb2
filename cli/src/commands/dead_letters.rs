//! `stoker dead-letters`: jobs that failed for good, kept until somebody decides about them.

use clap::Subcommand;
use serde::Serialize;
use stoker_proto::v1;
use stoker_runtime::clock::Clock as _;

use crate::confirmation::confirm;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::dead_letter::{self, AttemptDocument};
use crate::render::job::{self, JobDocument};
use crate::render::state::ReasonArg;
use crate::render::text::count;
use crate::terminal::note;

const PAGE: u32 = 1_000;
/// Most ids of one call, as the wire says.
const IDS_PER_CALL: usize = 1_000;

/// Look at failed jobs, run them again or drop them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List dead letters, newest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// Most to show
        #[arg(long, value_name = "N", default_value = "50")]
        limit: u32,
    },
    /// Show a dead letter with what became of each attempt
    Show {
        /// Id of the job
        id: String,
    },
    /// Start a new job for each dead letter and take it off the list
    ///
    /// Prints the ids of the new jobs.
    Redrive(Chosen),
    /// Take dead letters off the list for good
    ///
    /// The jobs stay failed and are removed when their retention ends.
    Discard(Chosen),
}

#[derive(Debug, clap::Args)]
struct Filter {
    /// Only those of this model
    #[arg(long, short, value_name = "NAME")]
    model: Option<String>,

    /// Only those that failed for this reason
    #[arg(long, short, value_name = "REASON")]
    reason: Option<ReasonArg>,
}

#[derive(Debug, clap::Args)]
struct Chosen {
    /// Ids of the jobs
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,

    /// All dead letters, or all that --model and --reason choose
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    filter: Filter,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    match args.command {
        Verb::List { filter, limit } => list(&filter, limit, context).await,
        Verb::Show { id } => show(id, context).await,
        Verb::Redrive(chosen) => {
            let ask = if chosen.all { Ask::Unless(chosen.yes) } else { Ask::Never };
            let Some(ids) = choose(chosen, "redrive", ask, context).await? else { return Ok(()) };
            redrive(&ids, context).await
        }
        Verb::Discard(chosen) => {
            let ask = Ask::Unless(chosen.yes);
            let Some(ids) = choose(chosen, "discard", ask, context).await? else { return Ok(()) };
            discard(&ids, context).await
        }
    }
}

async fn list(filter: &Filter, limit: u32, context: &mut Context) -> Result<(), Failure> {
    let (jobs, more) = fetch(filter, limit as usize, context).await?;
    if context.terminal.is_json() {
        let documents: Vec<_> = jobs.iter().map(job::document).collect();
        context.terminal.json(&serde_json::json!({ "dead_letters": documents }))?;
    } else if jobs.is_empty() {
        note("no dead letters");
    } else {
        let rows = dead_letter::rows(&jobs, context.clock.now());
        context.terminal.block(&rows)?;
    }
    if more {
        note("there are more; see --limit");
    }
    Ok(())
}

/// At most `limit`, and whether there are more.
async fn fetch(
    filter: &Filter,
    limit: usize,
    context: &Context,
) -> Result<(Vec<v1::Job>, bool), Failure> {
    let mut jobs = Vec::new();
    let mut request = v1::ListDeadLettersRequest {
        page_size: PAGE.min(u32::try_from(limit).unwrap_or(PAGE)).max(1),
        model: filter.model.clone().unwrap_or_default(),
        reason: filter.reason.map_or(0, |reason| v1::FailureReason::from(reason) as i32),
        ..v1::ListDeadLettersRequest::default()
    };
    loop {
        let answer = context.client.list_dead_letters(request.clone()).await?;
        jobs.extend(answer.jobs);
        let more = !answer.next_page_token.is_empty();
        if !more || jobs.len() >= limit {
            let cut = jobs.len() > limit;
            jobs.truncate(limit);
            return Ok((jobs, more || cut));
        }
        request.page_token = answer.next_page_token;
    }
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    job: JobDocument<'a>,
    history: Vec<AttemptDocument<'a>>,
}

async fn show(id: String, context: &mut Context) -> Result<(), Failure> {
    let answer = context.client.get_dead_letter(v1::GetDeadLetterRequest { job_id: id }).await?;
    let job = answer.job.ok_or_else(|| context.client.malformed("get the dead letter"))?;
    if context.terminal.is_json() {
        let history = answer.attempts.iter().map(dead_letter::attempt).collect();
        return context.terminal.json(&Document { job: job::document(&job), history });
    }
    let details = job::details(&job, "", context.clock.now());
    context.terminal.block(&details)?;
    if !answer.attempts.is_empty() {
        context.terminal.block("\n")?;
        context.terminal.block(&dead_letter::attempts(&answer.attempts))?;
    }
    Ok(())
}

/// Whether a person must agree first.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Never,
    /// Not if it was agreed to on the command line.
    Unless(bool),
}

/// The ids that are meant, agreed to; `None` if there are none.
async fn choose(
    chosen: Chosen,
    verb: &str,
    ask: Ask,
    context: &Context,
) -> Result<Option<Vec<String>>, Failure> {
    if !chosen.all && (chosen.filter.model.is_some() || chosen.filter.reason.is_some()) {
        return Err(Failure::usage("--model and --reason choose among all dead letters")
            .hint(format!("name ids alone, or write `{verb} --all` with them")));
    }
    let ids = if chosen.all {
        let (jobs, _) = fetch(&chosen.filter, usize::MAX, context).await?;
        jobs.into_iter().map(|job| job.id).collect()
    } else {
        chosen.ids
    };
    if ids.is_empty() {
        note("no dead letters");
        return Ok(None);
    }
    if let Ask::Unless(false) = ask {
        confirm(&format!("{verb} {}", count(ids.len() as u64, "dead letter")), "yes")?;
    }
    Ok(Some(ids))
}

async fn redrive(ids: &[String], context: &mut Context) -> Result<(), Failure> {
    let mut started = Vec::new();
    for ids in ids.chunks(IDS_PER_CALL) {
        let request = v1::RedriveDeadLettersRequest { job_ids: ids.to_vec() };
        let answer = context.client.redrive_dead_letters(request).await?;
        if !context.terminal.is_json() {
            for job in &answer.jobs {
                context.terminal.line(&job.id)?;
            }
            context.terminal.flush()?;
        }
        started.extend(answer.jobs);
    }
    if context.terminal.is_json() {
        let documents: Vec<_> = started.iter().map(job::document).collect();
        return context.terminal.json(&serde_json::json!({ "jobs": documents }));
    }
    note(&format!("started {}", count(started.len() as u64, "new job")));
    Ok(())
}

async fn discard(ids: &[String], context: &mut Context) -> Result<(), Failure> {
    let mut discarded = 0;
    for ids in ids.chunks(IDS_PER_CALL) {
        let request = v1::DiscardDeadLettersRequest { job_ids: ids.to_vec() };
        discarded += u64::from(context.client.discard_dead_letters(request).await?.discarded);
    }
    if context.terminal.is_json() {
        return context.terminal.json(&serde_json::json!({ "discarded": discarded }));
    }
    context.terminal.line(&format!("discarded {}", count(discarded, "dead letter")))
}
