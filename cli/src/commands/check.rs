//! `stoker check`: whether a fleet file is valid, without starting anything.

use std::path::PathBuf;

use stoker_core::fleet::Fleet;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet_file;
use crate::render::table::pairs;

/// Check a fleet file.
///
/// Prints a summary, or every problem with its key and what to do about it (exit code 1).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file
    #[arg(value_name = "FILE", default_value = "fleet.toml")]
    file: PathBuf,
}

pub(crate) fn run(args: &Args, context: &mut Context) -> Result<(), Failure> {
    let fleet = fleet_file::load(&args.file, Exit::Failed)?;
    if context.terminal.is_json() {
        return context.terminal.json(&document(&fleet));
    }
    context.terminal.line(&format!("{} is valid", args.file.display()))?;
    context.terminal.block(&summary(&fleet))
}

fn summary(fleet: &Fleet) -> String {
    pairs([
        ("fleet", fleet.name.to_string()),
        ("classes", names(fleet.classes.keys())),
        ("default class", fleet.default_class.to_string()),
        ("models", names(fleet.models.keys())),
        ("pools", names(fleet.pools.keys())),
        ("tenants", names(fleet.tenants.keys())),
    ])
}

fn document(fleet: &Fleet) -> serde_json::Value {
    fn list<T: ToString>(names: impl Iterator<Item = T>) -> Vec<String> {
        names.map(|name| name.to_string()).collect()
    }
    serde_json::json!({
        "valid": true,
        "fleet": fleet.name.as_str(),
        "classes": list(fleet.classes.keys()),
        "default_class": fleet.default_class.as_str(),
        "models": list(fleet.models.keys()),
        "pools": list(fleet.pools.keys()),
        "tenants": list(fleet.tenants.keys()),
    })
}

fn names<T: ToString>(names: impl Iterator<Item = T>) -> String {
    names.map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}
