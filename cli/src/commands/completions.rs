//! `stoker completions`: what a shell needs to complete command lines.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::context::Context;
use crate::failure::Failure;

/// Print completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stoker completions bash > ~/.local/share/bash-completion/completions/stoker
  stoker completions zsh > ~/.zfunc/_stoker
  stoker completions fish > ~/.config/fish/completions/stoker.fish")]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, context: &mut Context) -> Result<(), Failure> {
    // Into memory first: the generator panics if the reader goes away.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "stoker", &mut script);
    context.terminal.block(&String::from_utf8_lossy(&script))
}
