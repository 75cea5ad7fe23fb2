//! `stoker simulate`: what scaling would cost on a user's own traffic.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use stoker_core::time::Timestamp;
use stoker_core::units::HumanDuration;
use stoker_runtime::clock::Clock as _;
use stoker_sim::fleet::catalog::{Chosen, ChosenParser, PolicyName};
use stoker_sim::fleet::job::Workload;
use stoker_sim::fleet::service::Batch;
use stoker_sim::fleet::service_times::{COLUMNS, ServiceTimes};
use stoker_sim::fleet::suite::Extent;
use stoker_sim::fleet::table::Table;
use stoker_sim::fleet::timeline;
use stoker_sim::fleet::trace::capacity;
use stoker_sim::fleet::ways::{self, Others, Ways};
use stoker_sim::fleet::what_if::{self, WhatIf};
use stoker_sim::fleet::world::Setup;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet_file;
use crate::input::read_bytes;
use crate::journal;
use crate::output::sink::NewFile;
use crate::render::text::count;
use crate::render::time::rfc3339;
use crate::render::ways::{Simulation, document, page};
use crate::simulation::{Arrivals, Made, Part, Pool, fetch, journaled, parse, without_file};
use crate::terminal::note;

/// Simulate scaling on your own traffic, and what it would cost.
///
/// Runs the autoscaler's planner on arrivals of jobs: those of FILE, or without it those that the
/// coordinator remembers. It is compared with machines that are always on, with on-demand and spot
/// alone, with serverless at a price that you name, and with the policies of others. Nothing is
/// launched, and the coordinator is only read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stoker simulate --since 7d --fleet fleet.toml --plot week.svg
  stoker simulate arrivals.csv --price 1.006 --spot-price 0.43 --serverless-price 0.00031
  stoker simulate --journal .stoker/journal --since 1d --fleet fleet.toml --wait 30s
  stoker simulate arrivals.csv --policy keda-queue-length:target=4,min=1 --policy knative --tuned
  stoker list --all -o json > jobs.json; stoker simulate jobs.json --wait 5m --boot 60s
FILE is CSV with t_s,service_s (a row per job, also with class and model), t_s,count (a row per
interval) or t_s,rate (Poisson arrivals of so many jobs a second until the next row), JSON lines
like {\"t_s\": 12.5, \"service_s\": 3.1}, or the output of `stoker list --all -o json`.")]
pub(crate) struct Args {
    /// Arrivals of jobs; `-` reads standard input [default: the coordinator's jobs]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Without FILE: how far back to look
    #[arg(long, value_name = "TIME", default_value = "7d", conflicts_with = "file")]
    since: HumanDuration,

    /// Without FILE: the load that the autoscaler's journal in this folder counted since then. It is met by any policy
    /// and offerings; what was decided and bought at the time is not repeated (see `stoker plan --at`)
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    journal: Option<PathBuf>,

    /// Fleet file with classes, offerings and bounds [default: one on-demand offering]
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,

    /// Pool of the fleet file [default: the only one with offerings]
    #[arg(long, value_name = "NAME", requires = "fleet")]
    pool: Option<String>,

    /// Policy to compare with, and what it is told instead of what its document says: `keda-queue-length:target=4,min=1`;
    /// times in seconds; may be repeated [default: always-on]
    #[arg(long, value_name = "NAME[:KEY=NUMBER,...]", conflicts_with = "all_policies", value_parser = ChosenParser)]
    policy: Vec<Chosen>,

    /// Compare with every policy
    #[arg(long)]
    all_policies: bool,

    /// Compare also with the cheapest settings of a small grid that keep the promise, found in hindsight for each policy
    #[arg(long)]
    tuned: bool,

    /// Write load, capacity, waits and cost over time as a picture (SVG)
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    #[command(flatten)]
    what_if: WhatIfArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What if")]
struct WhatIfArgs {
    /// Longest wait, of every class
    #[arg(long, value_name = "TIME")]
    wait: Option<HumanDuration>,

    /// Fraction of jobs that must start within it, such as 0.99
    #[arg(long, value_name = "SHARE", value_parser = share)]
    objective: Option<f64>,

    /// Time from a launch to a worker
    #[arg(long, value_name = "TIME")]
    boot: Option<HumanDuration>,

    /// How much boots vary: the standard deviation of the logarithm of their time, such as 0.25
    #[arg(long, value_name = "NUMBER", default_value = "0", value_parser = not_negative)]
    boot_spread: f64,

    /// Share of launches that are refused
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share_or_none)]
    refused: f64,

    /// Dollars an hour of on-demand offerings [default: as in the fleet file, or 1]
    #[arg(long, value_name = "DOLLARS", value_parser = positive)]
    price: Option<f64>,

    /// Dollars an hour of spot offerings; without --fleet, offers spot at this price
    #[arg(long, value_name = "DOLLARS", value_parser = positive)]
    spot_price: Option<f64>,

    /// Interruptions per spot instance and hour, beside those of --spot-capacity
    #[arg(long, value_name = "NUMBER", default_value = "0.02", value_parser = not_negative)]
    spot_losses: f64,

    /// CSV of seconds and a column per zone: how many spot instances there were from then on
    #[arg(long, value_name = "FILE")]
    spot_capacity: Option<PathBuf>,

    /// Time from the notice of an interruption to the loss
    #[arg(long, value_name = "TIME", default_value = "2m")]
    notice: HumanDuration,

    /// How much of the start of a machine's life is not billed, such as 20s on EC2
    #[arg(long, value_name = "TIME", default_value = "0s")]
    free_pending: HumanDuration,

    /// Dollars per GPU-second of a serverless provider, to compare with
    #[arg(long, value_name = "DOLLARS", value_parser = positive)]
    serverless_price: Option<f64>,

    /// Jobs that a worker runs at a time [default: from bulk-speed in the fleet file, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: Option<u32>,

    /// How much longer each further job makes a batch, as a share of one job's time
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = not_negative)]
    batch_growth: f64,

    /// CSV of `model`, `instance_type` and `times` (as many times as long as in the arrivals) or `mean_s` and `cv` (drawn), also with
    /// `batch` and `batch_growth`: how long jobs run there, which the planner has to find out; `*` is any model
    #[arg(long, value_name = "FILE")]
    service_times: Option<PathBuf>,

    /// Mean run time in seconds where the arrivals do not say it
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = positive)]
    service: f64,

    /// Seed of what is random: arrivals of counts and rates, run times that are drawn, boots, refusals, interruptions
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
}

fn number(text: &str, holds: impl Fn(f64) -> bool, what: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number: &f64| holds(*number)).ok_or_else(|| format!("must be {what}"))
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, |n| n > 0.0 && n <= 1e6, "a number above 0 and at most a million")
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |n| (0.0..=1e6).contains(&n), "a number from 0 to a million")
}

fn share(text: &str) -> Result<f64, String> {
    number(text, |n| n > 0.0 && n < 1.0, "between 0 and 1")
}

fn share_or_none(text: &str) -> Result<f64, String> {
    number(text, |n| (0.0..1.0).contains(&n), "at least 0 and below 1")
}

/// How long waits and boots may be that a simulation makes sense of.
const LONGEST: u64 = 7 * 24 * 3600;

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let table = args.what_if.spot_capacity.as_deref().map(read_zones).transpose()?;
    let pool = pool(&args, table.as_ref())?;
    let arrivals = arrivals(&args, context).await?;
    let classes = pool.classes();
    let part = Part {
        classes: &classes,
        default_class: pool.default_class,
        pool: pool.name.as_deref(),
        service: args.what_if.service,
        seed: args.what_if.seed,
    };
    let Made { workload, notes } = arrivals.workload(&part).map_err(Failure::usage)?;
    let setup = setup(&args, &pool, table.as_ref(), &workload)?;
    for text in &notes {
        note(text);
    }
    let bounds = (&pool.policy, pool.budget);
    let price = args.what_if.serverless_price;
    let ways = ways::compare((&setup, &workload), bounds, &others(&args), price);
    let simulation =
        Simulation { setup: &setup, classes: &classes, workload: &workload, ways: &ways };
    if let Some(path) = &args.plot {
        draw(path, &setup, &ways)?;
    }
    if context.terminal.is_json() {
        return context.terminal.json(&document(&simulation, &notes));
    }
    context.terminal.block(&page(&simulation))
}

fn others(args: &Args) -> Others {
    let mut policies: Vec<Chosen> = Vec::new();
    if args.all_policies {
        let all = <PolicyName as clap::ValueEnum>::value_variants();
        policies.extend(all.iter().copied().map(Chosen::by_default));
    } else if args.policy.is_empty() {
        policies.push(Chosen::by_default(PolicyName::AlwaysOn));
    }
    for chosen in &args.policy {
        if !policies.contains(chosen) {
            policies.push(chosen.clone());
        }
    }
    Others { policies, extent: if args.tuned { Extent::Grid } else { Extent::Told } }
}

fn pool(args: &Args, capacity: Option<&Table>) -> Result<Pool, Failure> {
    if let Some(path) = &args.fleet {
        return Pool::of(&fleet_file::load(path, Exit::Usage)?, args.pool.as_deref());
    }
    let zones = match capacity {
        Some(table) => zones(table),
        None => ["a", "b", "c"].map(str::to_owned).to_vec(),
    };
    if capacity.is_some() && args.what_if.spot_price.is_none() {
        return Err(Failure::usage("--spot-capacity needs a price")
            .hint("say it with --spot-price, or name a --fleet with spot offerings"));
    }
    without_file(args.what_if.price.unwrap_or(1.0), args.what_if.spot_price, &zones)
}

async fn arrivals(args: &Args, context: &Context) -> Result<Arrivals, Failure> {
    if let Some(path) = &args.file {
        let (name, bytes) = read_bytes(path).map_err(|e| Failure::usage(e.to_string()))?;
        return parse(&name, &bytes).map_err(Failure::usage);
    }
    let since = context.clock.now().before(args.since.get());
    if let Some(folder) = &args.journal {
        return journal_of(folder, since);
    }
    let arrivals = fetch(&context.client, since).await?;
    if matches!(&arrivals, Arrivals::Jobs { jobs, .. } if jobs.is_empty()) {
        let time = args.since;
        return Err(Failure::failed(format!(
            "{} has no jobs of the last {time}",
            context.client.server()
        ))
        .hint("look further back with --since, or name a FILE with arrivals"));
    }
    Ok(arrivals)
}

fn journal_of(folder: &Path, since: Timestamp) -> Result<Arrivals, Failure> {
    let first = rfc3339(since).unwrap_or_default();
    let mut read = journal::read(folder, |date| date >= first.get(..10).unwrap_or_default())?;
    read.lines.retain(|line| line.at >= since);
    if read.unreadable > 0 {
        note(&format!(
            "{} of the journal cannot be read and count for nothing",
            count(read.unreadable, "line")
        ));
    }
    let arrivals = journaled(&read.lines);
    if matches!(&arrivals, Arrivals::Jobs { jobs, .. } if jobs.is_empty()) {
        let message = format!("the journal {} has no jobs of that time", folder.display());
        return Err(Failure::failed(message).hint("look further back with --since"));
    }
    Ok(arrivals)
}

fn read_table(path: &Path) -> Result<Table, Failure> {
    let (name, bytes) = read_bytes(path).map_err(|error| Failure::usage(error.to_string()))?;
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| Failure::usage(format!("{name} is not UTF-8 text")))?;
    Ok(Table::parse(Path::new(&name), &text))
}

fn read_zones(path: &Path) -> Result<Table, Failure> {
    let table = read_table(path)?;
    if zones(&table).is_empty() {
        return Err(Failure::usage(format!("{} has no column of a zone", path.display()))
            .hint("write CSV with t_s and a column per zone"));
    }
    Ok(table)
}

fn read_service_times(path: &Path) -> Result<ServiceTimes, Failure> {
    let times = ServiceTimes::of(&read_table(path)?);
    times.map_err(|error| {
        Failure::usage(error.to_string()).hint(format!("the columns are {COLUMNS}"))
    })
}

fn zones(table: &Table) -> Vec<String> {
    table.names().iter().filter(|name| *name != "t_s").cloned().collect()
}

fn setup(
    args: &Args,
    pool: &Pool,
    table: Option<&Table>,
    workload: &Workload,
) -> Result<Setup, Failure> {
    let of = &args.what_if;
    for (flag, time) in [("--notice", of.notice), ("--free-pending", of.free_pending)] {
        if time.get().as_secs() > LONGEST {
            return Err(Failure::usage(format!("{flag} must be at most 7d")));
        }
    }
    for (flag, time) in [("--wait", of.wait), ("--boot", of.boot)] {
        if time.is_some_and(|time| time.get().as_secs() > LONGEST || time.get().is_zero()) {
            return Err(Failure::usage(format!("{flag} must be above 0s and at most 7d")));
        }
    }
    let column = |table: &Table, zone: String| {
        let steps = capacity(table, &zone, workload.end);
        steps.map(|steps| (zone, steps)).map_err(|error| Failure::usage(error.to_string()))
    };
    let spot_capacity = match table {
        None => Vec::new(),
        Some(table) => {
            zones(table).into_iter().map(|zone| column(table, zone)).collect::<Result<_, _>>()?
        }
    };
    let what_if = WhatIf {
        max_wait: of.wait.map(HumanDuration::get),
        objective: of.objective,
        boot: of.boot.map(HumanDuration::get),
        boot_spread: of.boot_spread,
        refused: of.refused,
        price: of.price,
        spot_price: of.spot_price,
        spot_losses: of.spot_losses,
        spot_capacity,
        batch: of.batch.map(|size| Batch { size, growth: of.batch_growth }),
        service_times: of.service_times.as_deref().map(read_service_times).transpose()?,
        notice: Some(of.notice.get()),
        pending_free: of.free_pending.get(),
        seed: Some(of.seed),
    };
    let setup = what_if::setup(&pool.policy, &workload.models, &what_if);
    setup.map_err(|error| Failure::usage(error.to_string()))
}

fn draw(path: &Path, setup: &Setup, ways: &Ways) -> Result<(), Failure> {
    let runs: Vec<_> = ways.ways.iter().map(|way| (way.name.as_str(), &way.outcome)).collect();
    let wait = setup.classes.iter().map(|class| class.max_wait).min().unwrap_or(0);
    let mut file = NewFile::create(path)?;
    let written = file.write_all(timeline::picture(&runs, wait).as_bytes());
    written.map_err(|error| file.error(&error))?;
    file.commit()?;
    note(&format!("wrote {}", path.display()));
    Ok(())
}
