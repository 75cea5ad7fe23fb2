//! `stoker demo`: the story that shows in a minute what Stoker is for.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use stoker_core::fleet::Fleet;
use stoker_core::request::Task;
use stoker_runtime::ids;
use stoker_runtime::secret::Secret;

use super::dev::{cores, free_address, make_folder};
use crate::client::{Client, Settings};
use crate::context::Context;
use crate::demo::{Story, Told, summary};
use crate::dev::{
    Broker, LocalFleet, LogTarget, Plan, Programs, Slow, Staff, plan, wait_until_ready,
};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet_file;
use crate::input::{self, Form, Source};
use crate::terminal::note;
use crate::waiting::StopSignals;

/// Neighbors that are shown for each query.
const NEIGHBORS: usize = 3;

/// Where a run keeps its data unless told otherwise: a folder of its own in here.
const DATA: &str = ".stoker/demo";

/// Embed a text corpus on a fleet on this machine, and kill a worker half way.
///
/// Starts a fleet on a free port, submits the corpus, kills a worker with SIGKILL when half of the
/// sentences are done, checks that nothing was lost, and shows what is near to each query.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Text to embed, one sentence per line
    #[arg(long, value_name = "FILE")]
    corpus: PathBuf,

    /// Sentences to look up, one per line
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,

    /// Fleet file with a text-embedding model
    #[arg(long, value_name = "FILE")]
    fleet: PathBuf,

    /// Model to use [default: the first text-embedding model of the fleet]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// Workers to start
    #[arg(long, value_name = "N", default_value = "2")]
    workers: NonZeroU32,

    /// Sentences of a job
    #[arg(long, value_name = "N", default_value = "500")]
    job_items: NonZeroUsize,

    /// Folder for database and logs; kept [default: one that is removed when all went well]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,

    /// `embedded`, or an AMQP URI: best in the environment, where others cannot see it
    #[arg(
        long,
        alias = "broker-uri",
        value_name = "BROKER",
        env = "STOKER_BROKER_URI",
        hide_env_values = true,
        default_value = "embedded",
        hide_default_value = true
    )]
    broker: Secret,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut signals = StopSignals::new()?;
    let fleet = fleet_file::load(&args.fleet, Exit::Usage)?;
    let story = Story {
        model: choose_model(&fleet, args.model.as_deref())?,
        corpus: lines(&args.corpus)?,
        queries: lines(&args.queries)?,
        items_per_job: args.job_items.get(),
        key: ids::idempotency_key(),
    };
    let programs = Programs::find(&fleet, Staff::Workers(args.workers))?;
    let data = args.data.clone().unwrap_or_else(|| Path::new(DATA).join(&story.key));
    let plan = make_plan(&args, programs, &fleet, data.clone()).await?;
    make_folder(&data)?;
    let told = run_fleet(&plan, story, &mut signals, context)
        .await
        .map_err(|failure| failure.hint(format!("database and logs are in {}", data.display())))?;
    if args.data.is_none() {
        // It is only a copy of what was shown; if it stays, nothing is wrong.
        let _ = fs::remove_dir_all(&data);
        // Unless another run keeps its data in there.
        let _ = fs::remove_dir(DATA);
    }
    print(&told, context)
}

fn lines(path: &Path) -> Result<Vec<String>, Failure> {
    let input = input::read(&Source::at(path, Form::Lines));
    Ok(input.map_err(|error| Failure::usage(error.to_string()))?.loose)
}

fn choose_model(fleet: &Fleet, wanted: Option<&str>) -> Result<String, Failure> {
    let mut models = fleet
        .models
        .iter()
        .filter(|(_, model)| model.task == Task::TextEmbedding)
        .map(|(name, _)| name);
    match wanted {
        None => models.next().map(ToString::to_string).ok_or_else(|| {
            Failure::usage("the fleet has no model with `task = \"text-embedding\"`")
                .hint("the demo embeds sentences; name another file with --fleet")
        }),
        Some(wanted) => {
            models.find(|name| name.as_str() == wanted).map(ToString::to_string).ok_or_else(|| {
                Failure::usage(format!("the fleet has no text-embedding model `{wanted}`"))
            })
        }
    }
}

async fn make_plan(
    args: &Args,
    programs: Programs,
    fleet: &Fleet,
    data: PathBuf,
) -> Result<Plan, Failure> {
    /// Two, so that a worker has the next job at hand when one ends.
    const SLOTS: NonZeroU32 = NonZeroU32::new(2).expect("two is not zero");
    let workers = args.workers.get() as usize * fleet.pools.len();
    Ok(Plan {
        programs,
        fleet: args.fleet.clone(),
        pools: plan::pools(fleet),
        listen: free_address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?,
        data,
        broker: Broker::parse(&args.broker)?,
        staff: Staff::Workers(args.workers),
        slots: SLOTS,
        lanes: plan::lanes(cores(), workers),
        log_format: "human",
    })
}

/// Starts the fleet, tells the story and takes the fleet down, whatever happened.
async fn run_fleet(
    plan: &Plan,
    story: Story,
    signals: &mut StopSignals,
    context: &Context,
) -> Result<Told, Failure> {
    note(&format!(
        "Starting a coordinator and {} workers on this machine; their logs are in {}.",
        plan.workers(),
        plan.data.display()
    ));
    let logs = LogTarget::Folder(plan.data.clone());
    let mut local = LocalFleet::start(plan, &logs, &context.tasks)?;
    let told = tokio::select! {
        told = on_fleet(plan, story, &mut local, context) => told,
        exit = signals.next() => Err(stopped(exit)),
    };
    if !local.is_down() {
        local.stop().await;
        tokio::select! {
            _ = local.ended() => {}
            _ = signals.next() => local.abort().await,
        }
    }
    told
}

fn stopped(exit: Exit) -> Failure {
    let by = if exit == Exit::Terminated { "SIGTERM" } else { "Ctrl-C" };
    Failure::new(exit, format!("stopped by {by}; the fleet was taken down"))
}

async fn on_fleet(
    plan: &Plan,
    story: Story,
    local: &mut LocalFleet,
    context: &Context,
) -> Result<Told, Failure> {
    let workers = (plan.workers(), Slow::Fail);
    wait_until_ready(local, &plan.server(), workers, |notice| note(&format!("  {notice}"))).await?;
    let settings = Settings {
        server: plan.server(),
        tenant: None,
        timeout: std::time::Duration::from_secs(30),
    };
    Box::pin(story.tell(local, &Client::new(settings)?, context)).await
}

fn print(told: &Told, context: &mut Context) -> Result<(), Failure> {
    let found = told
        .queries
        .iter()
        .map(|(query, vector)| (query.as_str(), told.space.nearest(vector, NEIGHBORS)));
    if context.terminal.is_json() {
        let neighbors: Vec<_> = found
            .map(|(query, found)| {
                let found: Vec<_> = found
                    .iter()
                    .map(|n| serde_json::json!({ "text": n.text, "cosine": n.cosine }))
                    .collect();
                serde_json::json!({ "query": query, "nearest": found })
            })
            .collect();
        let document = serde_json::json!({ "summary": told.summary, "queries": neighbors });
        return context.terminal.json(&document);
    }
    context.terminal.line("\nNothing was lost.\n")?;
    context.terminal.block(&told.summary.table())?;
    context.terminal.line("\nNearest sentences, by cosine:")?;
    for (query, found) in found {
        context.terminal.block(&summary::neighbors(query, &found))?;
    }
    Ok(())
}
