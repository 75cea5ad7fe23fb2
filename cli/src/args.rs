//! The command line as a value.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};
use stoker_core::units::HumanDuration;
use stoker_runtime::secret::Secret;

use crate::commands::{
    cancel, check, completions, cost, dead_letters, demo, dev, doctor, explain, fleet, get, list,
    models, plan, queues, results, retry, simulate, status, submit, top, version, watch, workers,
};
use crate::exit;
use crate::terminal::OutputFormat;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Submits work to a Stoker fleet, watches it and operates the fleet.
///
/// Data are written to standard output, everything else to standard error. `stoker dev` starts a
/// whole fleet on this machine.
#[derive(Debug, Parser)]
#[command(
    name = "stoker",
    version,
    styles = STYLES,
    after_long_help = exit::help(),
    after_help = "See `stoker help <command>` for details, `stoker --help` for the exit codes.",
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = false,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Settings that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Address of the coordinator
    #[arg(
        long,
        global = true,
        env = "STOKER_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:7070"
    )]
    pub(crate) server: String,

    /// Tenant whose jobs they are [default: the fleet's only tenant]
    #[arg(long, global = true, env = "STOKER_TENANT", value_name = "NAME")]
    pub(crate) tenant: Option<String>,

    /// File with the operator token, which changes of the fleet may need
    #[arg(long, global = true, env = "STOKER_OPERATOR_TOKEN_FILE", value_name = "FILE")]
    pub(crate) operator_token_file: Option<PathBuf>,

    /// The token itself: from the environment, as others see flags
    #[arg(long, global = true, env = "STOKER_OPERATOR_TOKEN", hide = true)]
    pub(crate) operator_token: Option<Secret>,

    /// How to write data: `table` for people, `json` for programs
    #[arg(long, short, global = true, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: OutputFormat,

    /// Longest time one call to the coordinator may take
    #[arg(long, global = true, value_name = "TIME", default_value = "30s")]
    pub(crate) timeout: HumanDuration,

    #[arg(long, global = true, env = "NO_COLOR", hide = true)]
    pub(crate) no_color: Option<String>,

    /// What to log about this command itself, on standard error
    #[arg(long, global = true, env = "STOKER_CLI_LOG", default_value = "error", hide = true)]
    pub(crate) log: String,

    /// Where to send traces
    #[arg(long, global = true, env = "STOKER_OTLP_ENDPOINT", hide = true)]
    pub(crate) otlp_endpoint: Option<String>,
}

/// What to do. The help texts are with the arguments, in the commands' own files.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Submit(Box<submit::Args>),
    Get(get::Args),
    List(list::Args),
    Watch(watch::Args),
    Results(results::Args),
    Cancel(cancel::Args),
    Retry(retry::Args),
    Status(status::Args),
    Top(top::Args),
    Workers(workers::Args),
    Fleet(fleet::Args),
    Explain(explain::Args),
    Cost(cost::Args),
    Doctor(doctor::Args),
    Models(models::Args),
    Queues(queues::Args),
    #[command(visible_alias = "dlq")]
    DeadLetters(dead_letters::Args),
    Check(check::Args),
    Plan(plan::Args),
    Simulate(Box<simulate::Args>),
    Dev(dev::Args),
    Demo(demo::Args),
    Completions(completions::Args),
    Version(version::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
