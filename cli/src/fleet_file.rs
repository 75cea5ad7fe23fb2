//! Reading `fleet.toml` and saying everything that is wrong with it.

use std::path::Path;

use stoker_core::fleet::Fleet;
use stoker_runtime::config::ConfigError;
use stoker_runtime::error::chain;
use stoker_runtime::fleet::{FleetFileError, load_fleet};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::count;

/// What is wrong if a coordinator serves another fleet than a file is about; `who` is the coordinator as it is to be
/// called.
pub(crate) fn of_another_fleet(who: &str, theirs: &str, file: &Fleet) -> Option<String> {
    (theirs != file.name.as_str())
        .then(|| format!("{who} runs the fleet `{theirs}`, the file is about `{}`", file.name))
}

/// Reads and checks the file. `exit` is the code of a file that is read but not valid.
pub(crate) fn load(path: &Path, exit: Exit) -> Result<Fleet, Failure> {
    load_fleet(path).map_err(|error| match error {
        FleetFileError::Read(error @ ConfigError::Read { .. }) => Failure::usage(chain(&error)),
        FleetFileError::Read(error) => Failure::new(exit, chain(&error)),
        FleetFileError::Invalid { path, problems } => {
            let number = count(problems.len() as u64, "problem");
            Failure::new(exit, format!("{} has {number}", path.display()))
                .hints(problems.iter().map(ToString::to_string))
        }
    })
}
