//! Reads the repository's files and says which of them break a rule about files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::graph::{Graph, workspace_root};
use crate::rules::Exception;

/// Folders that hold no source: build results, downloads, other people's packages.
const SKIPPED_FOLDERS: &[&str] = &["target", ".git", ".cache", ".stoker", ".venv", "__pycache__"];

/// Text that is read as a whole is small; anything larger is data.
const MAX_TEXT_BYTES: u64 = 512 * 1024;

/// Text files by their path from the repository's root, with `/` between folders.
#[derive(Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the repository that this test belongs to.
    pub(crate) fn load() -> Self {
        let mut tree = Self::default();
        tree.add(workspace_root(), "");
        assert!(tree.files.contains_key("Cargo.toml"), "the repository's root was not found");
        tree
    }

    fn add(&mut self, folder: &Path, prefix: &str) {
        let entries = fs::read_dir(folder).expect("a folder of the repository can be listed");
        for entry in entries {
            let entry = entry.expect("a folder of the repository can be listed");
            let name = entry.file_name().into_string().expect("file names are UTF-8");
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().expect("a file of the repository can be examined");
            if kind.is_dir()
                && !SKIPPED_FOLDERS.contains(&name.as_str())
                && !is_cache(&entry.path())
            {
                self.add(&entry.path(), &format!("{path}/"));
            } else if kind.is_file() && entry.metadata().is_ok_and(|m| m.len() <= MAX_TEXT_BYTES) {
                // A file that vanished meanwhile, or is not text, has no lines to check.
                if let Ok(text) = fs::read_to_string(entry.path()) {
                    self.files.insert(path, text);
                }
            }
        }
    }

    /// Names in `docs/fault-matrix.md` that no test has, as a function or as an entry of a macro's list.
    pub(crate) fn unknown_tests(&self) -> Vec<String> {
        const MATRIX: &str = "docs/fault-matrix.md";
        /// Shorter words in code font are settings and the like.
        const LONG: usize = 20;
        let matrix = self.files.get(MATRIX).expect("the matrix is there");
        let quoted = matrix.split('`').skip(1).step_by(2);
        let is_test = |word: &&str| {
            word.len() >= LONG
                && word.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c))
        };
        let named: BTreeSet<&str> = quoted.filter(is_test).collect();
        assert!(named.len() > LONG, "the matrix names tests");
        let tests: BTreeSet<&str> = self.rust().flat_map(|(_, text)| test_names(text)).collect();
        named.difference(&tests).map(|name| format!("{MATRIX}: `{name}`")).collect()
    }

    /// Every text file with its path.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// A tree for tests of rules.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let own = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Self { files: files.iter().map(own).collect() }
    }

    fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        let rust = self
            .files
            .iter()
            .filter(|(path, _)| Path::new(path).extension() == Some("rs".as_ref()));
        rust.map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

/// Words that a line begins with, behind what declares a function. Comments and strings begin otherwise.
fn test_names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let line = line.strip_prefix("async ").unwrap_or(line);
        let line = line.strip_prefix("fn ").unwrap_or(line);
        line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()
    })
}

/// Whether a folder says of itself that it can be made again, as Cargo's target folders do.
fn is_cache(folder: &Path) -> bool {
    folder.join("CACHEDIR.TAG").is_file()
}

/// Crates that set their own lints.
pub(crate) fn lint_breaches(graph: &Graph) -> Vec<String> {
    let mut breaches = Vec::new();
    for (package, member) in &graph.members {
        let manifest =
            fs::read_to_string(&member.manifest).expect("a crate's manifest is readable");
        if !manifest.contains("[lints]\nworkspace = true\n") {
            breaches.push(format!("{package}: its Cargo.toml lacks them"));
        }
    }
    breaches
}

/// Modules named `mod.rs`.
pub(crate) fn module_breaches(tree: &Tree) -> Vec<String> {
    let files = tree.rust().map(|(path, _)| path).filter(|path| path.ends_with("/mod.rs"));
    files.map(|path| format!("{path}: name it after its folder and put it beside that")).collect()
}

/// Rust files without a first sentence or with too many lines, and exceptions that nothing needs. A
/// `tests.rs` holds the unit tests of the module that it is named under, and need not say so.
pub(crate) fn shape_breaches(tree: &Tree, most: usize, long: &[Exception]) -> Vec<String> {
    let mut breaches =
        stale(long, |file| tree.files.get(file).is_some_and(|text| text.lines().count() > most));
    for (path, text) in tree.rust() {
        if !text.starts_with("//! ") && !path.ends_with("/tests.rs") {
            breaches.push(format!("{path}: its first line is not `//!` and why it exists"));
        }
        let lines = text.lines().count();
        if lines > most && !excepted(long, path) {
            breaches.push(format!("{path}: {lines} lines; split it by noun, or list it"));
        }
    }
    breaches
}

/// Rust files with unsafe code that no exception names, and exceptions that nothing needs.
pub(crate) fn unsafe_breaches(tree: &Tree, agreed: &[Exception]) -> Vec<String> {
    let mut breaches =
        stale(agreed, |file| tree.files.get(file).is_some_and(|text| has_unsafe_code(text)));
    for (path, text) in tree.rust() {
        if has_unsafe_code(text) && !excepted(agreed, path) {
            breaches.push(format!("{path}: find a safe way, or list the file with the reason"));
        }
    }
    breaches
}

/// Lines that name a machine's own folders.
pub(crate) fn machine_path_breaches(tree: &Tree, paths: &[&str]) -> Vec<String> {
    let checkout = workspace_root().to_string_lossy();
    let own = (workspace_root().components().count() > 2).then_some(checkout.as_ref());
    let mut breaches = Vec::new();
    for (file, text) in &tree.files {
        for (index, line) in text.lines().enumerate() {
            let named = paths.iter().copied().chain(own).find(|path| starts_a_path(line, path));
            if let Some(named) = named {
                breaches.push(format!("{file}:{}: names `{named}`", index + 1));
            }
        }
    }
    breaches
}

fn excepted(exceptions: &[Exception], path: &str) -> bool {
    exceptions.iter().any(|exception| exception.file == path)
}

/// Exceptions whose file no longer needs one.
fn stale(exceptions: &[Exception], needed: impl Fn(&str) -> bool) -> Vec<String> {
    let unneeded = exceptions.iter().filter(|exception| !needed(exception.file));
    unneeded
        .map(|e| format!("{}: no longer needs its exception ({}); remove it", e.file, e.reason))
        .collect()
}

/// Whether a line of code, comments aside, opens something unsafe.
fn has_unsafe_code(text: &str) -> bool {
    const OPENINGS: &[&str] = &["{", "fn ", "impl ", "extern ", "trait "];
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).any(|code| {
        let after = code.split_once(concat!("un", "safe ")).map(|(_, after)| after);
        after.is_some_and(|after| OPENINGS.iter().any(|opening| after.starts_with(opening)))
    })
}

/// Whether `path` is at the start of a path in `line`, not in the middle of a longer one.
fn starts_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "_.-})>".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(path: &str, text: &str) -> Tree {
        Tree::of(&[(path, text)])
    }

    #[test]
    fn a_module_file_inside_its_folder_is_found() {
        assert_eq!(module_breaches(&tree("core/src/job.rs", "")).len(), 0);
        assert_eq!(module_breaches(&tree("core/src/job/mod.rs", "")).len(), 1);
    }

    #[test]
    fn a_file_that_is_long_or_says_nothing_of_itself_is_found() {
        let long = "//! Why.\n".repeat(3);
        let listed = [Exception { file: "a.rs", reason: "one table" }];
        assert_eq!(shape_breaches(&tree("a.rs", &long), 3, &[]).len(), 0);
        assert_eq!(shape_breaches(&tree("a.rs", &long), 2, &[]).len(), 1);
        assert_eq!(shape_breaches(&tree("a.rs", &long), 2, &listed).len(), 0);
        assert_eq!(shape_breaches(&tree("a.rs", "use std::fs;\n"), 2, &[]).len(), 1);
    }

    #[test]
    fn an_exception_that_nothing_needs_is_found() {
        let listed = [Exception { file: "a.rs", reason: "one table" }];
        assert_eq!(shape_breaches(&tree("a.rs", "//! Why.\n"), 2, &listed).len(), 1);
        assert_eq!(unsafe_breaches(&tree("b.rs", "//! Why.\n"), &listed).len(), 1);
    }

    #[test]
    fn unsafe_code_is_found_and_the_word_is_not() {
        let code = concat!("let x = un", "safe { read(p) };\n");
        let words = "// An unsafe { would be wrong here.\n#[expect(unsafe_code)]\n";
        assert_eq!(unsafe_breaches(&tree("a.rs", code), &[]).len(), 1);
        assert_eq!(unsafe_breaches(&tree("a.rs", words), &[]).len(), 0);
    }

    #[test]
    fn a_machine_path_is_found_and_a_longer_path_is_not() {
        let paths = ["/srv/someone/"];
        let found = |line| machine_path_breaches(&tree("a.sh", line), &paths).len();
        assert_eq!(found("cd /srv/someone/project"), 1);
        assert_eq!(found("path = \"/srv/someone/project\""), 1);
        assert_eq!(found("cd target/srv/someone/"), 0);
        assert_eq!(found("cd \"${DIR}/srv/someone/\""), 0);
    }
}
