//! `stoker simulate`: what scaling would cost on a user's own traffic.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use stoker_core::time::Timestamp;
use stoker_core::units::HumanDuration;
use stoker_runtime::clock::Clock as _;
use stoker_sim::fleet::catalog::PolicyName;
use stoker_sim::fleet::timeline;
use stoker_sim::fleet::trace::{Table, capacity};
use stoker_sim::fleet::ways::{self, Ways};
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
  stoker list --all -o json > jobs.json; stoker simulate jobs.json --wait 5m --boot 60s
FILE is CSV with t_s,service_s (a row per job, also with class) or t_s,count (a row per interval),
JSON lines like {\"t_s\": 12.5, \"service_s\": 3.1}, or the output of `stoker list --all -o json`.")]
pub(crate) struct Args {
    /// Arrivals of jobs; `-` reads standard input [default: the coordinator's jobs]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Without FILE: how far back to look
    #[arg(long, value_name = "TIME", default_value = "7d", conflicts_with = "file")]
    since: HumanDuration,

    /// Without FILE: what the autoscaler's journal in this folder counted since then
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    journal: Option<PathBuf>,

    /// Fleet file with classes, offerings and bounds [default: one on-demand offering]
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,

    /// Pool of the fleet file [default: the only one with offerings]
    #[arg(long, value_name = "NAME", requires = "fleet")]
    pool: Option<String>,

    /// Policy to compare with; may be repeated [default: always-on]
    #[arg(long, value_name = "NAME", conflicts_with = "all_policies")]
    policy: Vec<PolicyName>,

    /// Compare with every policy
    #[arg(long)]
    all_policies: bool,

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

    /// Dollars per GPU-second of a serverless provider, to compare with
    #[arg(long, value_name = "DOLLARS", value_parser = positive)]
    serverless_price: Option<f64>,

    /// Jobs that a worker runs at a time [default: from bulk-speed in the fleet file, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: Option<u32>,

    /// How much longer each further job makes a batch, as a share of one job's time
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = not_negative)]
    batch_growth: f64,

    /// Mean run time in seconds where the arrivals do not say it
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = positive)]
    service: f64,

    /// Seed of what is random: boots, refusals, interruptions
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
    let table = args.what_if.spot_capacity.as_deref().map(read_table).transpose()?;
    let pool = pool(&args, table.as_ref())?;
    let arrivals = arrivals(&args, context).await?;
    let classes = pool.classes();
    let part = Part {
        classes: &classes,
        default_class: pool.default_class,
        pool: pool.name.as_deref(),
        service: args.what_if.service,
    };
    let Made { workload, notes } = arrivals.workload(&part).map_err(Failure::usage)?;
    let setup = setup(&args, &pool, table.as_ref(), workload.end)?;
    for text in &notes {
        note(text);
    }
    let bounds = (&pool.policy, pool.budget);
    let price = args.what_if.serverless_price;
    let ways = ways::compare((&setup, &workload), bounds, &policies(&args), price);
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

fn policies(args: &Args) -> Vec<PolicyName> {
    if args.all_policies {
        return <PolicyName as clap::ValueEnum>::value_variants().to_vec();
    }
    let mut policies = args.policy.clone();
    if policies.is_empty() {
        policies.push(PolicyName::AlwaysOn);
    }
    policies.sort_unstable();
    policies.dedup();
    policies
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
    let table = Table::parse(Path::new(&name), &text);
    if zones(&table).is_empty() {
        return Err(Failure::usage(format!("{name} has no column of a zone"))
            .hint("write CSV with t_s and a column per zone"));
    }
    Ok(table)
}

fn zones(table: &Table) -> Vec<String> {
    table.names().iter().filter(|name| *name != "t_s").cloned().collect()
}

fn setup(args: &Args, pool: &Pool, table: Option<&Table>, end: i64) -> Result<Setup, Failure> {
    let of = &args.what_if;
    for (flag, time) in [("--wait", of.wait), ("--boot", of.boot)] {
        if time.is_some_and(|time| time.get().as_secs() > LONGEST || time.get().is_zero()) {
            return Err(Failure::usage(format!("{flag} must be above 0s and at most 7d")));
        }
    }
    let column = |table: &Table, zone: String| {
        let steps = capacity(table, &zone, end);
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
        batch: of.batch,
        batch_growth: of.batch_growth,
        seed: Some(of.seed),
    };
    what_if::setup(&pool.policy, &what_if).map_err(|error| Failure::usage(error.to_string()))
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
