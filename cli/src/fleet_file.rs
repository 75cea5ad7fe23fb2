//! Reading `fleet.toml` and saying everything that is wrong with it.

use std::path::Path;

use stoker_core::fleet::{Fleet, FleetSpec, Problem};
use stoker_runtime::config;

use crate::exit::Exit;
use crate::failure::{Failure, chain};
use crate::render::text::count;

/// Reads and checks the file. `exit` is the code of a file that is read but not valid.
pub(crate) fn load(path: &Path, exit: Exit) -> Result<Fleet, Failure> {
    let spec: FleetSpec = config::read_toml(path).map_err(|error| match error {
        config::ConfigError::Read { .. } => Failure::usage(chain(&error)),
        other => Failure::new(exit, chain(&other)),
    })?;
    spec.check().map_err(|problems| invalid(path, &problems, exit))
}

fn invalid(path: &Path, problems: &[Problem], exit: Exit) -> Failure {
    let number = count(problems.len() as u64, "problem");
    Failure::new(exit, format!("{} has {number}", path.display()))
        .hints(problems.iter().map(ToString::to_string))
}
