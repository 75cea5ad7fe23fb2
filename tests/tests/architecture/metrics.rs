//! Holds dashboards and alert rules to the metrics that the source defines, or that are on the list of those to come.

use std::collections::BTreeSet;
use std::path::Path;

use crate::sources::Tree;

/// Where dashboards and rules are.
const OBSERVABILITY: &str = "infra/observability/";
/// Its table has the metrics that the autoscaler is to report.
const TO_COME: &str = "infra/observability/README.md";
/// What every metric of ours begins with.
const OURS: &str = "stoker_";
/// What Prometheus adds to a histogram's name.
const SERIES: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Metrics in dashboards and rules that neither the source nor the list has.
pub(crate) fn unknown_metrics(tree: &Tree) -> Vec<String> {
    let defined: BTreeSet<&str> = tree
        .files()
        .filter(|(path, _)| path.ends_with("/metrics.rs"))
        .flat_map(|(_, text)| names(text))
        .collect();
    let to_come: BTreeSet<&str> = tree
        .files()
        .filter(|(path, _)| *path == TO_COME)
        .flat_map(|(_, text)| text.lines().filter_map(|line| line.strip_prefix("| `")))
        .filter_map(|row| row.split(['`', '{']).next())
        .collect();
    let mut breaches = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| shows_metrics(path)) {
        for name in names(text).collect::<BTreeSet<_>>() {
            let base = SERIES.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let known = |name| defined.contains(name) || to_come.contains(name);
            if !known(name) && !known(base) {
                breaches.push(format!("{path}: `{name}`"));
            }
        }
    }
    breaches
}

/// Whether a file has queries.
fn shows_metrics(path: &str) -> bool {
    let kind = Path::new(path).extension();
    path.starts_with(OBSERVABILITY) && ["json", "yml"].iter().any(|end| kind == Some(end.as_ref()))
}

/// Names of metrics in a text, wherever they stand.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split(move |c| !of_name(c))
        .filter(|word| word.starts_with(OURS) && word.len() > OURS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(query: &str) -> Vec<String> {
        unknown_metrics(&Tree::of(&[
            ("worker/src/metrics.rs", "const A: &str = \"stoker_worker_batch_seconds\";"),
            (TO_COME, "| `stoker_autoscaler_plans_total{outcome}` | plans |"),
            ("infra/observability/rules/fleet.yml", query),
        ]))
    }

    #[test]
    fn a_metric_that_nothing_defines_is_found() {
        assert_eq!(breaches("expr: stoker_worker_batch_seconds > 1").len(), 0);
        assert_eq!(
            breaches("expr: rate(stoker_worker_batch_seconds_bucket{le=\"1\"}[5m])").len(),
            0
        );
        assert_eq!(breaches("expr: stoker_autoscaler_plans_total").len(), 0);
        assert_eq!(breaches("expr: stoker_worker_batch_minutes > 1").len(), 1);
        assert_eq!(breaches("expr: stoker_autoscaler_leader").len(), 1);
    }

    #[test]
    fn a_recorded_rule_is_no_metric_of_ours() {
        assert_eq!(breaches("expr: stoker:waits_broken:ratio_rate5m > 1").len(), 0);
    }
}
