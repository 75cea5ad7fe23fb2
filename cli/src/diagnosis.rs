//! What is wrong with a fleet, from what could be read of it; asking is the command's.

mod buying;
mod coordinator;
mod launches;
mod quotas;
#[cfg(test)]
mod tests;
mod work;

use stoker_core::fleet::Fleet;
use stoker_core::time::Timestamp;
use stoker_proto::v1;

use crate::client::LedgerView;

/// How bad it is. The order is that of badness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Good,
    /// Cannot be checked from here.
    Unchecked,
    /// Works, and may not for long, or not as it was meant.
    Warning,
    /// Does not work.
    Problem,
}

impl Level {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Unchecked => "unchecked",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was looked at: a stable name.
    pub(crate) check: &'static str,
    pub(crate) level: Level,
    pub(crate) what: String,
    /// What to do; there is something for all that is not good.
    pub(crate) remedy: Option<String>,
}

impl Finding {
    fn good(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, level: Level::Good, what: what.into(), remedy: None }
    }

    fn new(
        check: &'static str,
        level: Level,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { check, level, what: what.into(), remedy: Some(remedy.into()) }
    }

    fn warning(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(check, Level::Warning, what, remedy)
    }

    fn problem(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(check, Level::Problem, what, remedy)
    }
}

/// The fleet file, as far as there is one.
#[derive(Debug)]
pub(crate) enum File {
    Valid(Box<Fleet>),
    /// What is wrong with it, a line for each problem.
    Invalid(Vec<String>),
    /// None was named, and there is none where it is looked for.
    Absent,
}

/// What could be read. An error is why it could not.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// How the file is called.
    pub(crate) file_name: String,
    pub(crate) file: File,
    pub(crate) server: String,
    /// Of this command.
    pub(crate) version: &'static str,
    pub(crate) status: Result<v1::FleetStatusResponse, String>,
    /// When the status was asked for and when it was answered, by the clock of this machine.
    pub(crate) asked_at: Timestamp,
    pub(crate) answered_at: Timestamp,
    pub(crate) queues: Result<Vec<v1::Queue>, String>,
    pub(crate) workers: Result<Vec<v1::Worker>, String>,
    pub(crate) ledger: Result<LedgerView, String>,
}

impl Evidence {
    /// The fleet file, if it is valid.
    fn fleet(&self) -> Option<&Fleet> {
        match &self.file {
            File::Valid(fleet) => Some(fleet),
            File::Invalid(_) | File::Absent => None,
        }
    }
}

/// Everything that was looked at, in the order of what depends on what.
pub(crate) fn diagnose(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = vec![file(evidence)];
    match &evidence.status {
        Err(why) => findings.push(Finding::problem(
            "coordinator",
            why,
            "start it, or name its address with --server or STOKER_SERVER; nothing else could be \
             checked",
        )),
        Ok(status) => {
            findings.extend(coordinator::findings(evidence, status));
            findings.extend(work::findings(evidence, status));
            findings.extend(buying::findings(evidence));
        }
    }
    findings
}

fn file(evidence: &Evidence) -> Finding {
    let name = &evidence.file_name;
    match &evidence.file {
        File::Valid(_) => Finding::good("fleet file", format!("{name} is valid")),
        File::Invalid(problems) => Finding::problem(
            "fleet file",
            format!("{name}: {}", problems.join("; ")),
            "mend each of these; `stoker check` tells them again",
        ),
        File::Absent => Finding::new(
            "fleet file",
            Level::Unchecked,
            format!("there is no {name} here"),
            "name it with --fleet, if it is to be checked",
        ),
    }
}
