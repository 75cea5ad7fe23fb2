//! What a check found: a line for each, and what to do under it.

use std::fmt::Write as _;

use serde::Serialize;

use super::text::clean;
use crate::diagnosis::{Finding, Level};

/// Findings for people.
pub(crate) fn page(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let (level, check) = (finding.level.name(), finding.check);
        let level = if finding.level == Level::Problem { "PROBLEM" } else { level };
        writeln!(text, "{level:<9}  {check:<12}  {}", clean(&finding.what))
            .expect("a string takes any text");
        if let Some(remedy) = &finding.remedy {
            writeln!(text, "{:<9}  {:<12}  -> {}", "", "", clean(remedy))
                .expect("a string takes any text");
        }
    }
    text
}

/// Findings as a document. Fields are only ever added.
#[derive(Debug, Serialize)]
pub(crate) struct FindingsDocument<'a> {
    /// Nothing is a problem.
    healthy: bool,
    findings: Vec<FindingDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct FindingDocument<'a> {
    check: &'static str,
    level: &'static str,
    what: &'a str,
    remedy: Option<&'a str>,
}

/// Findings for programs.
pub(crate) fn document(findings: &[Finding]) -> FindingsDocument<'_> {
    let healthy = findings.iter().all(|finding| finding.level != Level::Problem);
    let findings = findings
        .iter()
        .map(|finding| FindingDocument {
            check: finding.check,
            level: finding.level.name(),
            what: &finding.what,
            remedy: finding.remedy.as_deref(),
        })
        .collect();
    FindingsDocument { healthy, findings }
}
