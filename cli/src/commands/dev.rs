//! `stoker dev`: a whole fleet on this machine, until Ctrl-C.

use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use stoker_core::fleet::{Fleet, Provider};
use stoker_core::ids::ModelName;
use stoker_core::request::Task;
use stoker_core::units::ByteSize;
use stoker_runtime::error::chain;
use stoker_runtime::net;
use stoker_runtime::secret::Secret;

use crate::context::Context;
use crate::dev::{
    Broker, BuiltIn, LocalFleet, LogTarget, Notice, Plan, Programs, Slow, Staff, plan,
    wait_until_ready,
};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet_file;
use crate::render::text::count;
use crate::terminal::note;
use crate::waiting::StopSignals;

/// Where `stoker` looks for a coordinator unless told otherwise.
const USUAL_ADDRESS: &str = "127.0.0.1:7070";

/// Run a whole fleet on this machine.
///
/// Starts a coordinator and workers, shows their logs, starts a worker again that died, and ends
/// all of them on Ctrl-C: workers finish or hand back what they run first. A second Ctrl-C kills
/// them. Without --fleet, the fleet has the model `echo` and, where `make model` has put it,
/// `all-minilm-l6-v2`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Fleet file [default: a built-in fleet]
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,

    /// Workers to start for each pool of the fleet
    #[arg(long, value_name = "N", default_value = "2", conflicts_with = "autoscale")]
    workers: NonZeroU32,

    /// Start no workers but the autoscaler, which starts and ends them as the load needs
    ///
    /// The fleet file says with [provider.local] and the pools' offerings what its machines are like;
    /// those of the built-in fleet boot in 5s, and spot ones are taken back every few minutes.
    #[arg(long)]
    autoscale: bool,

    /// Jobs that a worker takes at once
    #[arg(long, value_name = "N", default_value = "4")]
    slots: NonZeroU32,

    /// Memory of each worker for the engines of all its models; models that do not fit into it take
    /// turns [default: three quarters of this machine's, or on a GPU what it has, less a margin]
    #[arg(long, value_name = "SIZE", env = "STOKER_MEMORY_BUDGET")]
    memory_budget: Option<ByteSize>,

    /// Address of the coordinator; port 0 is any free port
    #[arg(long, value_name = "ADDRESS", default_value = USUAL_ADDRESS)]
    listen: SocketAddr,

    /// Folder of the database; jobs in it are taken up again
    #[arg(long, value_name = "FOLDER", default_value = ".stoker/dev")]
    data: PathBuf,

    /// `embedded`, or an AMQP URI: best in the environment, where others cannot see it
    #[arg(
        long,
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
    let broker = Broker::parse(&args.broker)?;
    let listen = free_address(args.listen).await?;
    let staff = if args.autoscale { Staff::Autoscaled } else { Staff::Workers(args.workers) };
    let built_in = BuiltIn::new(staff);
    let fleet = match &args.fleet {
        Some(path) => fleet_file::load(path, Exit::Usage)?,
        None => built_in.fleet(),
    };
    check(&fleet, staff)?;
    let programs = Programs::find(&fleet, staff)?;
    make_folder(&args.data)?;
    let workers = args.workers.get() as usize * fleet.pools.len();
    let plan = Plan {
        programs,
        fleet: args.fleet.map_or_else(|| built_in.write(&args.data), Ok)?,
        pools: plan::pools(&fleet),
        listen,
        data: args.data,
        broker,
        staff,
        slots: args.slots,
        memory_budget: args.memory_budget,
        lanes: plan::lanes(cores(), workers),
        log_format: if context.terminal.err_is_terminal() { "human" } else { "json" },
    };
    let logs = LogTarget::Screen { color: context.terminal.color() };
    let mut local = LocalFleet::start(&plan, &logs, &context.tasks)?;
    let server = plan.server();
    let ready = wait_until_ready(&mut local, &server, (plan.workers(), Slow::Wait), say);
    let ready = tokio::select! {
        ready = ready => ready,
        _ = signals.next() => return stop(&mut local, &mut signals).await,
    };
    if let Err(failure) = ready.and_then(|()| announce(&plan, &fleet, context)) {
        if !local.is_down() {
            stop(&mut local, &mut signals).await?;
        }
        return Err(failure);
    }
    attend(&mut local, &mut signals).await
}

/// An autoscaler needs to know where workers of this machine are bought.
pub(super) fn check(fleet: &Fleet, staff: Staff) -> Result<(), Failure> {
    if staff == Staff::Autoscaled && !matches!(fleet.provider, Some(Provider::Local(_))) {
        return Err(Failure::usage(
            "--autoscale needs a fleet whose machines are this one's workers",
        )
        .hint("add [provider.local] and [[pools.NAME.offerings]] to the fleet file"));
    }
    Ok(())
}

fn say(notice: &Notice) {
    note(&format!("stoker: {notice}"));
}

/// Until Ctrl-C, or until the fleet goes down by itself.
async fn attend(local: &mut LocalFleet, signals: &mut StopSignals) -> Result<(), Failure> {
    loop {
        tokio::select! {
            notice = local.notice() => match notice {
                Some(notice) => say(&notice),
                None => return local.ended().await,
            },
            _ = signals.next() => return stop(local, signals).await,
        }
    }
}

/// Takes the fleet down in order; the next signal kills it.
async fn stop(local: &mut LocalFleet, signals: &mut StopSignals) -> Result<(), Failure> {
    note("stoker: stopping; workers finish or hand back what they run (Ctrl-C again kills them)");
    local.stop().await;
    let killed = tokio::select! {
        ended = local.ended() => return ended,
        exit = signals.next() => exit,
    };
    local.abort().await;
    // What was going wrong before does not matter any more.
    let _ = local.ended().await;
    Err(Failure::new(killed, "killed; what the workers ran is taken up at the next start"))
}

fn announce(plan: &Plan, fleet: &Fleet, context: &mut Context) -> Result<(), Failure> {
    let server = plan.server();
    let models: Vec<&str> = fleet.models.keys().map(ModelName::as_str).collect();
    if context.terminal.is_json() {
        context.terminal.json_line(&serde_json::json!({
            "server": server,
            "workers": plan.workers(),
            "models": models,
        }))?;
        return Ok(());
    }
    let best = fleet.models.iter().find(|(_, model)| model.task == Task::TextEmbedding);
    let model =
        best.or_else(|| fleet.models.iter().next()).map_or("echo", |(name, _)| name.as_str());
    let usual = plan.listen.to_string() == USUAL_ADDRESS;
    let option = if usual { String::new() } else { format!("--server {server} ") };
    let staff = match plan.staff {
        Staff::Workers(_) => count(plan.workers() as u64, "worker"),
        Staff::Autoscaled => "an autoscaler that starts workers as they are needed".to_owned(),
    };
    context.terminal.line(&format!(
        "Stoker is ready at {server} with {staff}. Try: stoker {option}submit --model {model} \
         --results \"hello, fleet\""
    ))?;
    context.terminal.flush()
}

pub(super) fn make_folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|error| {
        Failure::usage(format!("cannot make the folder {}: {error}", path.display()))
            .hint("name another one with --data")
    })
}

/// Checks that the address can be listened on, and chooses the port if that is left open.
pub(super) async fn free_address(address: SocketAddr) -> Result<SocketAddr, Failure> {
    if !net::is_loopback(address) {
        return Err(Failure::usage(format!("{address} can be reached from other machines"))
            .hint("a local fleet asks nobody for credentials: listen on 127.0.0.1"));
    }
    let probe = net::bind(address).await.map_err(|error| Failure::usage(chain(&error)))?;
    probe.local_addr().map_err(|error| Failure::failed(format!("cannot read the address: {error}")))
}

pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
