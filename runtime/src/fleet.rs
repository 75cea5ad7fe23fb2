//! Reading `fleet.toml`, with everything that is wrong with it in one error.

use std::fmt;
use std::path::{Path, PathBuf};

use stoker_core::fleet::{Fleet, FleetSpec, Problem};

use crate::config::{ConfigError, read_toml};

/// A fleet file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FleetFileError {
    /// It cannot be read, is not TOML, or has an unknown key.
    #[error(transparent)]
    Read(#[from] ConfigError),
    /// It contradicts itself. The text has a line for each problem.
    #[error("{}", Lines { path, problems })]
    Invalid { path: PathBuf, problems: Vec<Problem> },
}

/// Reads and checks the file that says what the fleet is.
pub fn load_fleet(path: &Path) -> Result<Fleet, FleetFileError> {
    let spec: FleetSpec = read_toml(path)?;
    spec.check().map_err(|problems| FleetFileError::Invalid { path: path.to_owned(), problems })
}

struct Lines<'a> {
    path: &'a Path,
    problems: &'a [Problem],
}

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(f, "{line_break}{}: {problem}", self.path.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "fleet = 'dev'\n[classes.standard]\nmax-wait = '60s'\n\
        [models.echo]\ntask = 'echo'\n[pools.default]\nmodels = ['echo']\n";

    fn load(text: &str) -> Result<Fleet, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.toml");
        std::fs::write(&path, text).unwrap();
        load_fleet(&path)
            .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), ""))
    }

    #[test]
    fn a_good_file_is_a_fleet() {
        assert_eq!(load(GOOD).unwrap().name.as_str(), "dev");
    }

    #[test]
    fn each_problem_is_a_line_with_file_and_key() {
        let text = GOOD.replace("60s", "0s").replace("['echo']", "['mega', 'echo']");
        let error = load(&text).unwrap_err();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 2, "{error}");
        assert!(lines[0].starts_with("/fleet.toml: classes.standard.max-wait: "), "{error}");
        assert!(lines[1].starts_with("/fleet.toml: pools.default.models: "), "{error}");
    }

    #[test]
    fn what_is_not_a_fleet_file_is_told_with_its_place() {
        let error = load(&GOOD.replace("max-wait", "max-wiat")).unwrap_err();
        assert!(error.contains(":3:1: ") && error.contains("did you mean `max-wait`"), "{error}");
        let error = load_fleet(Path::new("/no/such/fleet.toml")).unwrap_err().to_string();
        assert!(error.contains("/no/such/fleet.toml"), "{error}");
    }
}
