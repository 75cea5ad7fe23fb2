//! `stoker demo`: the story that shows in a minute what Stoker is for.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use stoker_core::fleet::Fleet;
use stoker_core::request::Task;
use stoker_runtime::ids;
use stoker_runtime::secret::Secret;

use super::dev;
use crate::client::{Client, Settings};
use crate::context::Context;
use crate::demo::{Bill, Scaling, Story, Told, summary};
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
///
/// With --autoscale, the fleet has an autoscaler instead of workers, and this machine plays the
/// cloud: machines are bought as work comes, spot ones are taken back, and when the work is done all
/// are given back. `stoker top` shows it live in another terminal. It takes about two minutes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Text to embed, one sentence per line
    #[arg(long, value_name = "FILE", required_unless_present = "autoscale")]
    corpus: Option<PathBuf>,

    /// Sentences to look up, one per line
    #[arg(long, value_name = "FILE", required_unless_present = "autoscale")]
    queries: Option<PathBuf>,

    /// Fleet file with a text-embedding model, or an echo model and [provider.local]
    #[arg(long, value_name = "FILE")]
    fleet: PathBuf,

    /// Show how the fleet buys machines and gives them back
    #[arg(long, conflicts_with_all = ["corpus", "queries", "workers", "job_items"])]
    autoscale: bool,

    /// Model to use [default: the first of the fleet that fits]
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
    let staff = if args.autoscale { Staff::Autoscaled } else { Staff::Workers(args.workers) };
    dev::check(&fleet, staff)?;
    let key = ids::idempotency_key();
    let act = act(&args, &fleet, &key)?;
    let programs = Programs::find(&fleet, staff)?;
    let data = args.data.clone().unwrap_or_else(|| Path::new(DATA).join(&key));
    let plan = make_plan(&args, programs, &fleet, (staff, data.clone())).await?;
    dev::make_folder(&data)?;
    let shown = show(act, &plan, &mut signals, context)
        .await
        .map_err(|failure| failure.hint(format!("database and logs are in {}", data.display())))?;
    if args.data.is_none() {
        // It is only a copy of what was shown; if it stays, nothing is wrong.
        let _ = fs::remove_dir_all(&data);
        // Unless another run keeps its data in there.
        let _ = fs::remove_dir(DATA);
    }
    match shown {
        Shown::Crash(told) => print(&told, context),
        Shown::Scaling(bill) => print_bill(&bill, context),
    }
}

/// What is to be shown.
enum Act {
    Crash(Story),
    Scaling(Scaling),
}

/// How it went.
enum Shown {
    Crash(Box<Told>),
    Scaling(Bill),
}

fn act(args: &Args, fleet: &Fleet, key: &str) -> Result<Act, Failure> {
    let (key, model) = (key.to_owned(), args.model.as_deref());
    Ok(match (&args.corpus, &args.queries) {
        (Some(corpus), Some(queries)) => Act::Crash(Story {
            model: choose_model(fleet, Task::TextEmbedding, model)?,
            corpus: lines(corpus)?,
            queries: lines(queries)?,
            items_per_job: args.job_items.get(),
            key,
        }),
        _ => Act::Scaling(Scaling { model: choose_model(fleet, Task::Echo, model)?, key }),
    })
}

fn lines(path: &Path) -> Result<Vec<String>, Failure> {
    let input = input::read(&Source::at(path, Form::Lines));
    Ok(input.map_err(|error| Failure::usage(error.to_string()))?.loose)
}

fn choose_model(fleet: &Fleet, task: Task, wanted: Option<&str>) -> Result<String, Failure> {
    let task_name = task.name();
    let mut models =
        fleet.models.iter().filter(|(_, model)| model.task == task).map(|(name, _)| name);
    match wanted {
        None => models.next().map(ToString::to_string).ok_or_else(|| {
            Failure::usage(format!("the fleet has no model with `task = \"{task_name}\"`"))
                .hint("name another file with --fleet")
        }),
        Some(wanted) => {
            models.find(|name| name.as_str() == wanted).map(ToString::to_string).ok_or_else(|| {
                Failure::usage(format!("the fleet has no {task_name} model `{wanted}`"))
            })
        }
    }
}

async fn make_plan(
    args: &Args,
    programs: Programs,
    fleet: &Fleet,
    (staff, data): (Staff, PathBuf),
) -> Result<Plan, Failure> {
    /// Two, so that a worker has the next job at hand when one ends.
    const SLOTS: NonZeroU32 = NonZeroU32::new(2).expect("two is not zero");
    let workers = args.workers.get() as usize * fleet.pools.len();
    Ok(Plan {
        programs,
        fleet: args.fleet.clone(),
        pools: plan::pools(fleet),
        listen: dev::free_address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?,
        data,
        broker: Broker::parse(&args.broker)?,
        staff,
        slots: SLOTS,
        memory_budget: None,
        lanes: plan::lanes(dev::cores(), workers),
        log_format: "human",
    })
}

/// Starts the fleet, shows the act and takes the fleet down, whatever happened.
async fn show(
    act: Act,
    plan: &Plan,
    signals: &mut StopSignals,
    context: &Context,
) -> Result<Shown, Failure> {
    let staff = match plan.staff {
        Staff::Workers(_) => format!("{} workers", plan.workers()),
        Staff::Autoscaled => "an autoscaler".to_owned(),
    };
    note(&format!(
        "Starting a coordinator and {staff} on this machine; their logs are in {}.",
        plan.data.display()
    ));
    let logs = LogTarget::Folder(plan.data.clone());
    let mut local = LocalFleet::start(plan, &logs, &context.tasks)?;
    let shown = tokio::select! {
        shown = Box::pin(on_fleet(act, plan, &mut local, context)) => shown,
        exit = signals.next() => Err(stopped(exit)),
    };
    if !local.is_down() {
        local.stop().await;
        tokio::select! {
            _ = local.ended() => {}
            _ = signals.next() => local.abort().await,
        }
    }
    shown
}

fn stopped(exit: Exit) -> Failure {
    let by = if exit == Exit::Terminated { "SIGTERM" } else { "Ctrl-C" };
    Failure::new(exit, format!("stopped by {by}; the fleet was taken down"))
}

async fn on_fleet(
    act: Act,
    plan: &Plan,
    local: &mut LocalFleet,
    context: &Context,
) -> Result<Shown, Failure> {
    let workers = (plan.workers(), Slow::Fail);
    wait_until_ready(local, &plan.server(), workers, |notice| note(&format!("  {notice}"))).await?;
    let settings = Settings {
        server: plan.server(),
        tenant: None,
        operator_token: None,
        timeout: std::time::Duration::from_secs(30),
    };
    let client = Client::new(settings)?;
    Ok(match act {
        Act::Crash(story) => {
            let told = Box::pin(story.tell(local, &client, context)).await?;
            Shown::Crash(Box::new(told))
        }
        Act::Scaling(scaling) => {
            note(&format!("Live in another terminal: stoker --server {} top", plan.server()));
            Shown::Scaling(Box::pin(scaling.tell(local, &client, context)).await?)
        }
    })
}

fn print_bill(bill: &Bill, context: &mut Context) -> Result<(), Failure> {
    if context.terminal.is_json() {
        return context.terminal.json(bill);
    }
    context.terminal.line("\nNothing was lost, and nothing runs that costs money.\n")?;
    context.terminal.block(&bill.table())
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
