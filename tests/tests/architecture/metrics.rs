//! Holds dashboards and alert rules to the metrics that the source defines, or that are on the list of those to come, and that list to the
//! autoscaler's source.

use std::collections::BTreeSet;
use std::path::Path;

use crate::sources::Tree;

/// Where dashboards and rules are.
const OBSERVABILITY: &str = "infra/observability/";
/// Where the autoscaler's metrics are defined.
const AUTOSCALER: &str = "autoscaler/src/metrics.rs";
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
    let to_come = in_the_table(tree);
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

/// Metrics of the autoscaler that its table does not explain, and rows of the table that it does not report.
pub(crate) fn unexplained_metrics(tree: &Tree) -> Vec<String> {
    let source = tree.files().filter(|(path, _)| *path == AUTOSCALER);
    // In quotes: the names of our crates begin in the same way.
    let quoted = source.flat_map(|(_, text)| text.split('"').skip(1).step_by(2));
    let defined: BTreeSet<&str> = quoted.filter(|word| word.starts_with(OURS)).collect();
    let explained = in_the_table(tree);
    let missing = defined.difference(&explained).map(|name| format!("{TO_COME}: lacks `{name}`"));
    let stale = explained.difference(&defined);
    let stale = stale.map(|name| format!("{TO_COME}: `{name}` is in no {AUTOSCALER}"));
    missing.chain(stale).collect()
}

/// The first words of the table's rows.
fn in_the_table(tree: &Tree) -> BTreeSet<&str> {
    let tables = tree.files().filter(|(path, _)| *path == TO_COME);
    let rows =
        tables.flat_map(|(_, text)| text.lines().filter_map(|line| line.strip_prefix("| `")));
    let first = rows.filter_map(|row| row.split(['`', '{']).next());
    first.filter(|name| name.starts_with(OURS)).collect()
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
    fn a_metric_without_its_row_and_a_row_without_its_metric_are_found() {
        let breaches = |source: &str| {
            unexplained_metrics(&Tree::of(&[
                (AUTOSCALER, &format!("use stoker_core::fleet;\n{source}")),
                (
                    TO_COME,
                    "| `fleet` | a label |\n| `stoker_autoscaler_plans_total{outcome}` | plans |",
                ),
            ]))
        };
        assert_eq!(breaches("const PLANS: &str = \"stoker_autoscaler_plans_total\";").len(), 0);
        assert_eq!(breaches("").len(), 1);
        assert_eq!(
            breaches("\"stoker_autoscaler_plans_total\", \"stoker_cloud_calls_total\"").len(),
            1
        );
    }

    #[test]
    fn a_recorded_rule_is_no_metric_of_ours() {
        assert_eq!(breaches("expr: stoker:waits_broken:ratio_rate5m > 1").len(), 0);
    }
}
