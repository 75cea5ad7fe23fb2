//! Holds the workspace to the structure that ARCHITECTURE.md describes: who may depend on whom, where
//! heavy dependencies live, and what no source file may contain.
//!
//! The rules are the tables in `rules`; a test here only says which edge or file breaks which of them.
//! To change a rule, change its table in the same commit as the decision record that explains it.

mod dependencies;
mod graph;
mod metrics;
mod rules;
mod sources;

use graph::Graph;
use sources::Tree;

/// Fails with every breach at once, each of which says what to do.
fn assert_none(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}:\n  - {}\n", breaches.join("\n  - "));
}

#[test]
fn crates_depend_only_on_the_layers_below_them() {
    assert_none(
        "a crate may depend only on what rules::LAYERS gives it",
        &dependencies::layer_breaches(&Graph::load(), rules::LAYERS),
    );
}

#[test]
fn heavy_dependencies_stay_in_their_home() {
    assert_none(
        "a dependency of rules::HOMES may be declared only by the crates that it names",
        &dependencies::home_breaches(&Graph::load(), rules::HOMES),
    );
}

#[test]
fn crates_do_not_reach_what_they_must_be_free_of() {
    assert_none(
        "a crate may not reach, even through others, what rules::FREE_OF forbids it",
        &dependencies::reach_breaches(&Graph::load(), rules::FREE_OF),
    );
}

#[test]
fn core_depends_on_its_allow_list_only() {
    assert_none(
        "stoker-core is pure: it depends on what rules::CORE_ALLOWED lists and nothing else",
        &dependencies::allow_list_breaches(&Graph::load(), "stoker-core", rules::CORE_ALLOWED),
    );
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    assert_none(
        "every crate's Cargo.toml has `[lints]` with `workspace = true`",
        &sources::lint_breaches(&Graph::load()),
    );
}

#[test]
fn modules_are_files_beside_their_folder() {
    assert_none(
        "a module with children is `name.rs` beside `name/`, not `name/mod.rs`",
        &sources::module_breaches(&Tree::load()),
    );
}

#[test]
fn source_files_have_one_reason_to_exist() {
    assert_none(
        "a Rust file starts by saying why it exists, and has at most rules::MAX_LINES lines",
        &sources::shape_breaches(&Tree::load(), rules::MAX_LINES, rules::LONG_FILES),
    );
}

#[test]
fn unsafe_code_is_where_it_was_agreed() {
    assert_none(
        "unsafe code is only in the files of rules::UNSAFE_FILES",
        &sources::unsafe_breaches(&Tree::load(), rules::UNSAFE_FILES),
    );
}

#[test]
fn no_file_names_a_path_of_somebodys_machine() {
    assert_none(
        "a file may not name a home folder or the folder it was written in",
        &sources::machine_path_breaches(&Tree::load(), rules::MACHINE_PATHS),
    );
}

#[test]
fn the_fault_matrix_names_tests_that_exist() {
    assert_none(
        "a test that docs/fault-matrix.md names is in the code under that name",
        &Tree::load().unknown_tests(),
    );
}

#[test]
fn dashboards_and_alerts_name_metrics_that_exist() {
    assert_none(
        "a metric in infra/observability is a constant of a metrics.rs, or in the table of its README.md",
        &metrics::unknown_metrics(&Tree::load()),
    );
}

#[test]
fn every_metric_of_the_autoscaler_is_explained() {
    assert_none(
        "the table in infra/observability/README.md has each metric of autoscaler/src/metrics.rs, and no other",
        &metrics::unexplained_metrics(&Tree::load()),
    );
}
