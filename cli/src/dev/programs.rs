//! The programs that a fleet consists of, beside the one that runs.

use std::path::{Path, PathBuf};

use stoker_core::fleet::Fleet;

use super::plan::Staff;
use crate::failure::Failure;

const COORDINATOR: Program = Program { file: "stoker-coordinator", package: "stoker-coordinator" };
const WORKER: Program = Program { file: "stoker-worker", package: "stoker-worker" };
const AUTOSCALER: Program = Program { file: "stoker-autoscaler", package: "stoker-autoscaler" };
const ENGINE: Program = Program { file: "stoker-engine", package: "stoker-engine" };
const ECHO_ENGINE: Program = Program { file: "stoker-engine-echo", package: "stoker-engine-api" };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Program {
    file: &'static str,
    /// What cargo calls the crate that it is built from.
    package: &'static str,
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) coordinator: PathBuf,
    pub(crate) worker: PathBuf,
    /// Checked for only where it is needed.
    pub(crate) autoscaler: PathBuf,
}

impl Programs {
    /// Finds what `fleet` needs in the folder of this very program.
    pub(crate) fn find(fleet: &Fleet, staff: Staff) -> Result<Self, Failure> {
        let own = std::env::current_exe()
            .map_err(|error| Failure::failed(format!("cannot find this program: {error}")))?;
        let folder = own.parent().unwrap_or_else(|| Path::new("."));
        let missing: Vec<Program> = needed(fleet, staff)
            .into_iter()
            .filter(|program| !folder.join(program.file).is_file())
            .collect();
        if missing.is_empty() {
            return Ok(Self {
                coordinator: folder.join(COORDINATOR.file),
                worker: folder.join(WORKER.file),
                autoscaler: folder.join(AUTOSCALER.file),
            });
        }
        Err(not_found(folder, &missing))
    }
}

fn needed(fleet: &Fleet, staff: Staff) -> Vec<Program> {
    let mut programs = vec![COORDINATOR, WORKER];
    if staff == Staff::Autoscaled {
        programs.push(AUTOSCALER);
    }
    for model in fleet.models.values() {
        let engine = if model.task.is_builtin() { ECHO_ENGINE } else { ENGINE };
        if !programs.contains(&engine) {
            programs.push(engine);
        }
    }
    programs
}

fn not_found(folder: &Path, missing: &[Program]) -> Failure {
    let files: Vec<_> = missing.iter().map(|program| program.file).collect();
    let packages: Vec<_> = missing.iter().map(|program| program.package).collect();
    // Cargo's folders have the names of their profiles.
    let profile = if folder.ends_with("release") { " --release" } else { "" };
    Failure::failed(format!("cannot find {} in {}", files.join(", "), folder.display())).hint(
        format!("build the missing programs: cargo build{profile} -p {}", packages.join(" -p ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_command_that_builds_it() {
        let failure = not_found(Path::new("/x/release"), &[WORKER, ECHO_ENGINE]);
        assert_eq!(
            failure.text(),
            "error: cannot find stoker-worker, stoker-engine-echo in /x/release\n  \
             build the missing programs: cargo build --release -p stoker-worker -p stoker-engine-api\n"
        );
        assert!(!not_found(Path::new("/x/debug"), &[WORKER]).text().contains("--release"));
    }
}
