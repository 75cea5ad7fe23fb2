//! The workspace's dependencies as `cargo metadata` reports them, reduced to names and edges.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// A crate of this workspace.
#[derive(Default)]
pub(crate) struct Member {
    pub(crate) manifest: PathBuf,
    /// What its manifest declares: of every kind, optional ones and those for other systems included.
    pub(crate) declared: BTreeSet<String>,
}

/// Who declares and who reaches what.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) members: BTreeMap<String, Member>,
    /// Package to the packages that building or running it needs, on this system with default features.
    pub(crate) needs: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Reads the workspace that this test belongs to. Looks nothing up on a network: what is built
    /// is already here.
    pub(crate) fn load() -> Self {
        let metadata = MetadataCommand::new()
            .manifest_path(workspace_root().join("Cargo.toml"))
            .other_options(
                ["--locked", "--offline", "--filter-platform", "host-tuple"].map(String::from),
            )
            .exec()
            .expect("cargo metadata reads this workspace");
        Self { members: members(&metadata), needs: needs(&metadata) }
    }

    /// A shortest chain from `package` to something that `wanted` accepts, both ends included.
    pub(crate) fn path(&self, package: &str, wanted: impl Fn(&str) -> bool) -> Option<Vec<&str>> {
        let (start, _) = self.needs.get_key_value(package)?;
        let mut seen = BTreeSet::from([start.as_str()]);
        let mut chains = VecDeque::from([vec![start.as_str()]]);
        while let Some(chain) = chains.pop_front() {
            for next in chain.last().and_then(|last| self.needs.get(*last)).into_iter().flatten() {
                if !seen.insert(next) {
                    continue;
                }
                let longer = chain.iter().copied().chain([next.as_str()]).collect::<Vec<_>>();
                if wanted(next) {
                    return Some(longer);
                }
                chains.push_back(longer);
            }
        }
        None
    }
}

/// The folder of the workspace.
pub(crate) fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a folder of the workspace")
}

fn members(metadata: &Metadata) -> BTreeMap<String, Member> {
    metadata
        .workspace_packages()
        .into_iter()
        .map(|package| {
            let declared =
                package.dependencies.iter().map(|dependency| dependency.name.clone()).collect();
            let manifest = package.manifest_path.clone().into_std_path_buf();
            (package.name.to_string(), Member { manifest, declared })
        })
        .collect()
}

fn needs(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let resolve = metadata.resolve.as_ref().expect("cargo metadata resolves unless told not to");
    let name = |id| metadata[id].name.to_string();
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // Two versions of a package count as one: a rule forbids or allows both.
    for node in &resolve.nodes {
        let used = node.deps.iter().filter(|dependency| {
            dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
        });
        needs.entry(name(&node.id)).or_default().extend(used.map(|used| name(&used.pkg)));
    }
    needs
}
