//! `stoker plan`: what the autoscaler would do now, and why.

use std::collections::BTreeMap;
use std::path::PathBuf;

use stoker_core::fleet::{Fleet, Policy};
use stoker_core::ids::{OfferingName, PoolName};
use stoker_core::units::HumanDuration;
use stoker_proto::v1;
use stoker_runtime::clock::Clock as _;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet_file;
use crate::planning::{Observed, outcome};
use crate::render::plan::{Page, document, page};
use crate::render::time::{duration_to_wire, from_wire};
use crate::terminal::note;

/// Show what the autoscaler would do now, and why.
///
/// Reads what waits and runs from the coordinator, lives through its recent past to learn the load,
/// and plans with the offerings of the fleet file. Nothing is done. What is not known is said; a
/// pool about which something essential is not known is held.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stoker plan
  stoker plan --history 7d --workers-are default=g5.xlarge.us-east-1a.on-demand -o json")]
pub(crate) struct Args {
    /// Fleet file with the offerings
    #[arg(long, value_name = "FILE", default_value = "fleet.toml")]
    fleet: PathBuf,

    /// How much of the past to learn from, at most 8d
    #[arg(long, value_name = "TIME", default_value = "24h")]
    history: HumanDuration,

    /// Offering that the present workers of a pool are of, where it has several; may be repeated
    #[arg(long, value_name = "POOL=OFFERING", value_parser = pair)]
    workers_are: Vec<(PoolName, OfferingName)>,
}

fn pair(text: &str) -> Result<(PoolName, OfferingName), String> {
    let (pool, offering) = text.split_once('=').ok_or("write it as POOL=OFFERING")?;
    let pool = PoolName::new(pool).map_err(|error| error.to_string())?;
    Ok((pool, OfferingName::new(offering).map_err(|error| error.to_string())?))
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let fleet = fleet_file::load(&args.fleet, Exit::Usage)?;
    let workers_are = checked(&args, &fleet)?;
    let history = Some(duration_to_wire(args.history.get()));
    let client = &context.client;
    let status = client.fleet_status(v1::FleetStatusRequest {}).await?;
    if status.fleet != fleet.name.as_str() {
        note(&format!(
            "the coordinator runs the fleet `{}`, the file is about `{}`",
            status.fleet, fleet.name
        ));
    }
    let demand = client.observe_demand(v1::ObserveDemandRequest { history }).await;
    let workers = client.list_workers(v1::ListWorkersRequest {}).await;
    let answered = demand.as_ref().ok().and_then(|demand| demand.observed_at.as_ref());
    let observed = Observed {
        now: from_wire(answered).unwrap_or_else(|| context.clock.now()),
        demand: reason(demand)?,
        workers: reason(workers)?,
    };
    let outcome = outcome(&fleet, &observed, &workers_are);
    let page_of = Page {
        server: context.client.server(),
        broker_problem: &status.broker_problem,
        history: args.history.get(),
        now: observed.now,
        outcome: &outcome,
    };
    if context.terminal.is_json() {
        return context.terminal.json(&document(&page_of));
    }
    context.terminal.block(&page(&page_of))
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
