//! The commands, one file each, and which of them a command line means.

pub(crate) mod cancel;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod cost;
pub(crate) mod dead_letters;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod doctor;
mod each;
pub(crate) mod explain;
pub(crate) mod fleet;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod models;
pub(crate) mod plan;
pub(crate) mod queues;
pub(crate) mod results;
pub(crate) mod retry;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod top;
pub(crate) mod version;
pub(crate) mod watch;
pub(crate) mod workers;

use crate::args::Command;
use crate::context::Context;
use crate::failure::Failure;

/// Does what was asked for.
pub(crate) async fn run(command: Command, context: &mut Context) -> Result<(), Failure> {
    match command {
        Command::Submit(args) => Box::pin(submit::run(*args, context)).await,
        Command::Get(args) => get::run(args, context).await,
        Command::List(args) => list::run(args, context).await,
        Command::Watch(args) => watch::run(args, context).await,
        Command::Results(args) => results::run(args, context).await,
        Command::Cancel(args) => cancel::run(args, context).await,
        Command::Retry(args) => retry::run(args, context).await,
        Command::Status(args) => status::run(args, context).await,
        Command::Top(args) => Box::pin(top::run(args, context)).await,
        Command::Workers(args) => workers::run(args, context).await,
        Command::Fleet(args) => fleet::run(args, context).await,
        Command::Explain(args) => explain::run(args, context).await,
        Command::Cost(args) => cost::run(args, context).await,
        Command::Doctor(args) => doctor::run(args, context).await,
        Command::Models(args) => models::run(args, context).await,
        Command::Queues(args) => queues::run(args, context).await,
        Command::DeadLetters(args) => dead_letters::run(args, context).await,
        Command::Check(args) => check::run(&args, context),
        Command::Plan(args) => plan::run(args, context).await,
        Command::Simulate(args) => Box::pin(simulate::run(*args, context)).await,
        Command::Dev(args) => Box::pin(dev::run(args, context)).await,
        Command::Demo(args) => Box::pin(demo::run(args, context)).await,
        Command::Completions(args) => completions::run(&args, context),
        Command::Version(args) => version::run(args, context).await,
    }
}

/// A label argument.
fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("write it as KEY=VALUE".to_owned()),
    }
}
