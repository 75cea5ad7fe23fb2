//! `stoker plan`: what the autoscaler would do now, and why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use stoker_core::fleet::journal::{Line, Record, moment as moment_of};
use stoker_core::fleet::ledger::Ledger;
use stoker_core::fleet::{Fleet, Policy};
use stoker_core::ids::{OfferingName, PoolName};
use stoker_core::time::Timestamp;
use stoker_core::units::HumanDuration;
use stoker_proto::v1;
use stoker_runtime::clock::Clock as _;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet_file;
use crate::journal;
use crate::planning::{Observed, outcome};
use crate::render::plan::{Basis, Page, document, followed, followed_document, page};
use crate::render::time::{duration_to_wire, from_wire, rfc3339};
use crate::terminal::note;

/// How much of the recorded past is lived through, unless somebody says otherwise.
const HISTORY: Duration = Duration::from_hours(24);

/// A journal that says nothing for longer belongs to an autoscaler that did not run.
const LONGEST_QUIET: Duration = Duration::from_hours(24);

/// Show what the autoscaler would do now, and why.
///
/// Reads what waits and runs from the coordinator and plans with the offerings of the fleet file, and with what
/// the autoscaler has learned; where none is at work, the recent past is lived through instead. Nothing is done. What is not known is said; a
/// pool about which something essential is not known is held. With --at, the autoscaler's journal says
/// what was planned then, why, and what was done about it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stoker plan
  stoker plan --at 2026-11-26T03:12:00Z --journal /var/lib/stoker/journal
  stoker plan --history 7d --workers-are default=g5.xlarge.us-east-1a.on-demand -o json")]
pub(crate) struct Args {
    /// Fleet file with the offerings
    #[arg(long, value_name = "FILE", default_value = "fleet.toml")]
    fleet: PathBuf,

    /// How much of the recorded past to learn from, at most 8d [default: what the autoscaler has learned, or 24h
    /// where none is at work]
    #[arg(long, value_name = "TIME")]
    history: Option<HumanDuration>,

    /// What was planned at this time and what was done about it, by the autoscaler's journal:
    /// `2026-11-26T10:15:00Z`, or `10m` for ten minutes ago
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with_all = ["history", "workers_are"])]
    at: Option<At>,

    /// Folder of the journal
    #[arg(long, value_name = "DIR", default_value = journal::FOLDER, requires = "at")]
    journal: PathBuf,

    /// Offering that the present workers of a pool are of, where it has several; may be repeated
    #[arg(long, value_name = "POOL=OFFERING", value_parser = pair)]
    workers_are: Vec<(PoolName, OfferingName)>,
}

/// A time that is named, or a span from now back.
#[derive(Debug, Clone, Copy)]
enum At {
    Time(Timestamp),
    Ago(Duration),
}

fn moment(text: &str) -> Result<At, String> {
    if let Ok(ago) = text.parse::<HumanDuration>() {
        return Ok(At::Ago(ago.get()));
    }
    let time = humantime::parse_rfc3339_weak(text)
        .map_err(|_| "write it as 2026-11-26T10:15:00Z, or as a span such as 10m")?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| "it is before 1970")?;
    Ok(At::Time(Timestamp::from_unix_millis(0).after(since)))
}

fn pair(text: &str) -> Result<(PoolName, OfferingName), String> {
    let (pool, offering) = text.split_once('=').ok_or("write it as POOL=OFFERING")?;
    let pool = PoolName::new(pool).map_err(|error| error.to_string())?;
    Ok((pool, OfferingName::new(offering).map_err(|error| error.to_string())?))
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    if let Some(at) = args.at {
        return explain(&args.journal, at, context);
    }
    let fleet = fleet_file::load(&args.fleet, Exit::Usage)?;
    let workers_are = checked(&args, &fleet)?;
    let history = args.history.map_or(HISTORY, HumanDuration::get);
    let client = &context.client;
    let status = client.fleet_status(v1::FleetStatusRequest {}).await?;
    if let Some(problem) = fleet_file::of_another_fleet("the coordinator", &status.fleet, &fleet) {
        note(&problem);
    }
    let demand = client
        .observe_demand(v1::ObserveDemandRequest { history: Some(duration_to_wire(history)) })
        .await;
    let workers = client.list_workers(v1::ListWorkersRequest {}).await;
    let ledger = reason(client.ledger_and_memory().await)?;
    if let Err(why) = &ledger {
        note(&format!(
            "the autoscaler's ledger cannot be read, so its machines are not known: {why}"
        ));
    }
    // Where nothing was ever bought no autoscaler runs.
    let mut ledger = ledger.ok().filter(|ledger| ledger.account.intents > 0);
    let answered = demand.as_ref().ok().and_then(|demand| demand.observed_at.as_ref());
    let observed = Observed {
        now: from_wire(answered).unwrap_or_else(|| context.clock.now()),
        demand: reason(demand)?,
        workers: reason(workers)?,
        memory: ledger
            .as_mut()
            .and_then(|view| view.memory.take())
            .filter(|_| args.history.is_none()),
        ledger: ledger.map(|view| Ledger { entries: view.entries, account: view.account }),
    };
    let outcome = outcome(&fleet, &observed, &workers_are);
    let page_of = Page {
        heading: &format!(
            "What the autoscaler would do now at {}; nothing is done.",
            context.client.server()
        ),
        broker_problem: &status.broker_problem,
        now: observed.now,
        plan: &outcome.planned.plan,
        report: &outcome.planned.report,
        basis: Some(Basis { history, outcome: &outcome }),
    };
    if context.terminal.is_json() {
        return context.terminal.json(&document(&page_of));
    }
    context.terminal.block(&page(&page_of))
}

/// What the journal says of a time.
fn explain(folder: &Path, at: At, context: &mut Context) -> Result<(), Failure> {
    let at = match at {
        At::Time(at) => at,
        At::Ago(ago) => context.clock.now().before(ago),
    };
    let date = |at: Timestamp| rfc3339(at).and_then(|text| Some(text.get(..10)?.to_owned()));
    let (first, last) = (date(at.before(LONGEST_QUIET)), date(at));
    let wanted = |day: &str| Some(day) >= first.as_deref() && Some(day) <= last.as_deref();
    let read = journal::read(folder, wanted)?;
    let moment = moment_of(read.lines, at);
    let shown = rfc3339(at).unwrap_or_default();
    let Some(Line { at: planned_at, record: Record::Planned { plan, report, .. }, .. }) =
        &moment.planned
    else {
        return Err(Failure::failed(format!(
            "the journal {} has no plan before {shown}",
            folder.display()
        ))
        .hint("it may begin later, or lie in another folder: see --journal"));
    };
    let heading = format!(
        "What the autoscaler planned at {}, the last time before {shown}.",
        rfc3339(*planned_at).unwrap_or_default()
    );
    let page_of =
        Page { heading: &heading, broker_problem: "", now: *planned_at, plan, report, basis: None };
    if context.terminal.is_json() {
        let mut document = document(&page_of);
        document["followed"] = followed_document(&moment.since);
        return context.terminal.json(&document);
    }
    context.terminal.block(&(page(&page_of) + &followed(*planned_at, &moment.since)))
}

fn checked(args: &Args, fleet: &Fleet) -> Result<BTreeMap<PoolName, OfferingName>, Failure> {
    let policy = Policy::of(fleet);
    if policy.pools.is_empty() {
        return Err(Failure::usage(format!(
            "no pool of {} has offerings, so there is nothing to plan",
            args.fleet.display()
        ))
        .hint("add [[pools.NAME.offerings]] with instance-type, zone and price"));
    }
    for (pool, offering) in &args.workers_are {
        let Some(policy) = policy.pools.get(pool) else {
            return Err(Failure::usage(format!("--workers-are: no pool `{pool}` with offerings")));
        };
        if !policy.scaling.offerings.contains_key(offering) {
            let names = policy.scaling.offerings.keys().map(ToString::to_string);
            let names = names.collect::<Vec<_>>().join(", ");
            let message = format!("--workers-are: pool `{pool}` has no offering `{offering}`");
            return Err(Failure::usage(message).hint(format!("it has: {names}")));
        }
    }
    Ok(args.workers_are.iter().cloned().collect())
}

/// A reading that failed holds the pools; without a coordinator there is nobody to plan for.
fn reason<T>(answer: Result<T, Failure>) -> Result<Result<T, String>, Failure> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(failure) if failure.exit() == Exit::Unreachable => Err(failure),
        Err(failure) => Ok(Err(failure.message().to_owned())),
    }
}
