//! `stoker fleet`: the machines that were bought, what they cost, and what the autoscaler may do.

use std::time::Duration;

use clap::Subcommand;
use stoker_core::fleet::ledger::{Entry, Mode};
use stoker_core::units::HumanDuration;
use stoker_proto::convert;
use stoker_proto::v1;
use stoker_runtime::clock::Clock as _;

use crate::client::LedgerView;
use crate::confirmation::confirm;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::machine::{self, Page};
use crate::render::text::count;
use crate::render::time::duration_to_wire;
use crate::render::worker;

/// Machines that ended are of interest for so long: some are still to be charged for.
const LOOKED_BACK: Duration = Duration::from_hours(1);

/// Show the machines that were bought and what they cost, and say what the autoscaler may do.
///
/// The switch decides what the autoscaler does: `run` (what it plans, within the caps), `freeze`
/// (nothing), `drain` (all machines go once their work is done) or `panic` (all machines end at
/// once). It stays as it is set until somebody sets it again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stoker fleet
  stoker fleet freeze --why 'the bill looks odd'
  stoker fleet terminate i-0a1b2c3d --why 'its disk is slow'
  stoker fleet panic --why 'keys were stolen' --yes")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show switch, machines and money; what `stoker fleet` alone does
    ///
    /// Machines are those in the autoscaler's ledger: each is there from before it is asked for
    /// until it is gone. What was spent is the autoscaler's account, charged on to this moment;
    /// days and months are those of UTC. The caps are those of the coordinator's fleet file.
    Status,
    /// Let the autoscaler do again what it plans
    #[command(visible_alias = "thaw")]
    Run(Said),
    /// Let the autoscaler launch, drain and end nothing
    Freeze(Said),
    /// Let all machines go, each once its work is done or its time is up
    Drain(Agreed),
    /// End all machines at once, whatever they do
    ///
    /// Jobs that run there are handed out again once workers are there again. None is lost.
    Panic(Agreed),
    /// End one machine, once its work is done or its time is up
    ///
    /// The autoscaler carries it out, also while the switch is at freeze, and buys another machine if
    /// the load needs one. Jobs that are not done in time are handed over; none is lost. Given again,
    /// the order can hasten the end and not put it off.
    Terminate(Terminate),
    /// Give the worker of a machine no new work; it goes on with what it runs
    Cordon {
        /// Id of the machine, or the provider's name for it
        machine: String,
        /// Give it new work again
        #[arg(long)]
        undo: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Said {
    /// Why, for whoever looks next
    #[arg(long, value_name = "TEXT")]
    why: String,

    /// Who says so [default: the name of the user]
    #[arg(long, value_name = "NAME", env = "USER", hide_env = true)]
    by: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Agreed {
    #[command(flatten)]
    said: Said,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
struct Terminate {
    /// Id of the machine, or the provider's name for it
    machine: String,

    /// Time that its worker has to finish what it runs, at most 24h
    #[arg(long, value_name = "TIME", default_value = "10m", conflicts_with = "now")]
    within: HumanDuration,

    /// End it at once, whatever it does
    #[arg(long)]
    now: bool,

    #[command(flatten)]
    agreed: Agreed,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    match args.command.unwrap_or(Verb::Status) {
        Verb::Status => status(context).await,
        Verb::Run(said) => set(Mode::Run, said, context).await,
        Verb::Freeze(said) => set(Mode::Freeze, said, context).await,
        Verb::Drain(agreed) => {
            if !agreed.yes {
                agree("drain", "let all machines go", context).await?;
            }
            set(Mode::Drain, agreed.said, context).await
        }
        Verb::Panic(agreed) => {
            if !agreed.yes {
                agree("panic", "end all machines at once", context).await?;
            }
            set(Mode::Panic, agreed.said, context).await
        }
        Verb::Terminate(args) => terminate(args, context).await,
        Verb::Cordon { machine, undo } => {
            let cordon = if undo { Cordon::Lift } else { Cordon::Set };
            self::cordon(&machine, cordon, context).await
        }
    }
}

async fn ledger(context: &Context) -> Result<LedgerView, Failure> {
    context.client.ledger(context.clock.now().before(LOOKED_BACK)).await
}

async fn status(context: &mut Context) -> Result<(), Failure> {
    let ledger = ledger(context).await?;
    let workers = context.client.list_workers(v1::ListWorkersRequest {}).await?.workers;
    let page = Page { ledger: &ledger, workers: &workers };
    if context.terminal.is_json() {
        return context.terminal.json(&machine::document(&page));
    }
    context.terminal.block(&machine::page(&page))
}

/// Asks. What was agreed to on the command line is done without a look at the ledger: nothing is to keep it from
/// being done.
async fn agree(word: &str, what: &str, context: &Context) -> Result<(), Failure> {
    let ledger = ledger(context).await?;
    let open = ledger.open().count() as u64;
    confirm(&format!("{what} ({} in the ledger)", count(open, "machine")), word)
}

/// Who speaks.
fn speaker(by: Option<String>) -> Result<String, Failure> {
    by.filter(|by| !by.is_empty())
        .ok_or_else(|| Failure::usage("it is not known who you are").hint("say it with --by NAME"))
}

async fn set(mode: Mode, said: Said, context: &mut Context) -> Result<(), Failure> {
    let by = speaker(said.by)?;
    let mode = convert::wire_fleet_mode(mode).into();
    let request = v1::SetSwitchRequest { mode, by, why: said.why };
    let answer = context.client.set_switch(request).await?;
    let incomplete = || context.client.malformed("set the fleet's switch");
    let switch = answer.switch.ok_or_else(incomplete)?;
    let switch = convert::fleet_switch(&switch).map_err(|_| incomplete())?;
    if context.terminal.is_json() {
        return context.terminal.json(&machine::switch_document(&switch));
    }
    context.terminal.line(&format!("switch: {}", machine::switch(&switch, context.clock.now())))
}

async fn terminate(args: Terminate, context: &mut Context) -> Result<(), Failure> {
    let Terminate { machine: name, within, now, agreed } = args;
    let by = speaker(agreed.said.by)?;
    let ledger = ledger(context).await?;
    let entry = find(&ledger, &name)?;
    if !agreed.yes {
        let (pool, state) = (&entry.order.pool, entry.state.kind().name());
        let how = if now { "end at once" } else { "drain and end" };
        confirm(&format!("{how} {name}, which is {state} in the pool {pool}"), "terminate")?;
    }
    let within = (!now).then(|| duration_to_wire(within.get()));
    let machine_id = entry.id.to_string();
    let order = v1::EndMachineRequest { machine_id, by, why: agreed.said.why, within };
    let entry = context.client.order_end(order).await?;
    if context.terminal.is_json() {
        return context.terminal.json(&machine::machine(&entry, &[]));
    }
    let state = machine::state_and_why(&entry, context.clock.now());
    context.terminal.line(&format!("{name}: {state}: {}", machine::why(&entry)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cordon {
    Set,
    Lift,
}

async fn cordon(name: &str, cordon: Cordon, context: &mut Context) -> Result<(), Failure> {
    let ledger = ledger(context).await?;
    let entry = find(&ledger, name)?;
    let worker = entry.state.worker().ok_or_else(|| {
        let state = entry.state.kind().name();
        Failure::failed(format!("the machine {name} has no worker: it is {state}"))
            .hint("`stoker fleet` shows when its worker has registered")
    })?;
    let cordoned = cordon == Cordon::Set;
    let request = v1::CordonWorkerRequest { worker_id: worker.to_string(), cordoned };
    let answer = context.client.cordon_worker(request).await?;
    let seen = answer.worker.ok_or_else(|| context.client.malformed("cordon the worker"))?;
    if context.terminal.is_json() {
        return context.terminal.json(&worker::document(&seen));
    }
    let rows = worker::rows(&[seen], context.clock.now());
    context.terminal.block(&rows)
}

/// The machine of this id, or of this name of its provider's.
fn find<'a>(ledger: &'a LedgerView, name: &str) -> Result<&'a Entry, Failure> {
    let named = |entry: &&Entry| {
        entry.id.to_string() == name
            || entry.state.instance().is_some_and(|instance| instance.as_str() == name)
    };
    ledger.open().find(named).ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("no machine `{name}` in the ledger"))
            .hint("`stoker fleet` lists those that there are")
    })
}
