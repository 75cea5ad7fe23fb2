//! Compares a graph of dependencies with the rules, and says which edge breaks which.

use std::collections::BTreeSet;

use crate::graph::Graph;
use crate::rules::{FreeOf, Home, Layer};

/// Crates that no layer names, layers that name no crate, and declared edges that no layer allows.
pub(crate) fn layer_breaches(graph: &Graph, layers: &[Layer]) -> Vec<String> {
    let ruled: BTreeSet<_> = layers.iter().map(|layer| layer.package).collect();
    let unruled =
        graph.members.keys().filter(|name| !ruled.contains(name.as_str())).map(|name| {
            format!("{name} is in no layer; add it with the crates that it may depend on")
        });
    let gone = layers
        .iter()
        .filter(|layer| !graph.members.contains_key(layer.package))
        .map(|layer| format!("{} has a layer but is no crate; remove the line", layer.package));
    unruled.chain(gone).chain(layers.iter().flat_map(|layer| edges(graph, layer))).collect()
}

fn edges(graph: &Graph, layer: &Layer) -> Vec<String> {
    let declared = graph.members.get(layer.package).into_iter().flat_map(|m| &m.declared);
    declared
        .filter(|name| graph.members.contains_key(*name) && name.as_str() != layer.package)
        .filter(|name| !layer.may_use.contains(&name.as_str()))
        .map(|name| {
            format!(
                "{} -> {name}: of our crates it may use only [{}]",
                layer.package,
                layer.may_use.join(", ")
            )
        })
        .collect()
}

/// Declared dependencies that have a home, declared elsewhere.
pub(crate) fn home_breaches(graph: &Graph, homes: &[Home]) -> Vec<String> {
    let mut breaches = Vec::new();
    for (package, member) in &graph.members {
        for name in &member.declared {
            let home = homes.iter().find(|home| matches(home.dependency, name));
            if let Some(home) = home.filter(|home| !home.homes.contains(&package.as_str())) {
                breaches
                    .push(format!("{package} -> {name}: its home is {}", home.homes.join(", ")));
            }
        }
    }
    breaches
}

/// Chains of dependencies that end in something forbidden.
pub(crate) fn reach_breaches(graph: &Graph, rules: &[FreeOf]) -> Vec<String> {
    let mut breaches = Vec::new();
    for rule in rules {
        for forbidden in rule.forbidden {
            if let Some(path) = graph.path(rule.package, |name| matches(forbidden, name)) {
                breaches.push(format!("{}: {}", path.join(" -> "), rule.because));
            }
        }
    }
    breaches
}

/// Declared dependencies of `package` that are not on its allow-list.
pub(crate) fn allow_list_breaches(graph: &Graph, package: &str, allowed: &[&str]) -> Vec<String> {
    let Some(member) = graph.members.get(package) else {
        return vec![format!("{package} is no crate of this workspace")];
    };
    let extra = member.declared.iter().filter(|name| !allowed.contains(&name.as_str()));
    extra.map(|name| format!("{package} -> {name}: not on the list")).collect()
}

/// Whether a name is the one that a rule means, or of the family that it means.
fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |family| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Member;

    /// A workspace of `worker`, `engine` and `core` in which each declares what it is given.
    fn graph(worker: &[&str], engine: &[&str]) -> Graph {
        let mut graph = Graph::default();
        for (name, uses) in [("worker", worker), ("engine", engine), ("core", &[])] {
            let declared: BTreeSet<_> = uses.iter().map(ToString::to_string).collect();
            graph.needs.insert(name.to_owned(), declared.clone());
            let member = Member { declared, ..Member::default() };
            graph.members.insert(name.to_owned(), member);
        }
        graph
    }

    const LAYERS: &[Layer] = &[
        Layer { package: "core", may_use: &[] },
        Layer { package: "worker", may_use: &["core"] },
        Layer { package: "engine", may_use: &["core"] },
    ];

    #[test]
    fn an_edge_between_services_is_found() {
        assert_eq!(layer_breaches(&graph(&["core", "serde"], &["core"]), LAYERS), [""; 0]);
        let found = layer_breaches(&graph(&["core", "engine"], &[]), LAYERS);
        assert_eq!(found, ["worker -> engine: of our crates it may use only [core]"]);
    }

    #[test]
    fn a_crate_without_a_layer_and_a_layer_without_a_crate_are_found() {
        let found = layer_breaches(&graph(&[], &[]), &LAYERS[..2]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("engine is in no layer"), "{found:?}");

        let found = layer_breaches(&Graph::default(), &LAYERS[..1]);
        assert_eq!(found, ["core has a layer but is no crate; remove the line"]);
    }

    #[test]
    fn a_heavy_dependency_away_from_home_is_found() {
        let homes = [Home { dependency: "candle-*", homes: &["engine"] }];
        assert_eq!(home_breaches(&graph(&["candles"], &["candle-nn"]), &homes), [""; 0]);
        let found = home_breaches(&graph(&["candle-nn"], &[]), &homes);
        assert_eq!(found, ["worker -> candle-nn: its home is engine"]);
    }

    #[test]
    fn a_forbidden_package_is_found_behind_others() {
        let rule = FreeOf { package: "worker", forbidden: &["cudarc"], because: "no driver" };
        let mut graph = graph(&["core", "helper"], &["cudarc"]);
        assert_eq!(reach_breaches(&graph, std::slice::from_ref(&rule)), [""; 0]);

        let helper = BTreeSet::from(["core".to_owned(), "cudarc".to_owned()]);
        graph.needs.insert("helper".to_owned(), helper);
        let found = reach_breaches(&graph, &[rule]);
        assert_eq!(found, ["worker -> helper -> cudarc: no driver"]);
    }

    #[test]
    fn a_dependency_off_the_allow_list_is_found() {
        let graph = graph(&["serde", "rand"], &[]);
        assert_eq!(allow_list_breaches(&graph, "worker", &["serde", "rand", "uuid"]), [""; 0]);
        let found = allow_list_breaches(&graph, "worker", &["serde"]);
        assert_eq!(found, ["worker -> rand: not on the list"]);
    }
}
