//! The labels of a classifier: what their names may be. Each part of a result names them all, so
//! they must be few and short enough to be repeated.

use std::collections::BTreeSet;

/// Bytes that the name of one label may have.
pub const MAX_NAME_BYTES: usize = 255;

/// Bytes that all names together may have.
pub const MAX_BYTES: usize = 64 << 10;

/// What is wrong with the names of a model's labels, for a sentence that says where they stand.
pub fn problem(names: &[String]) -> Option<String> {
    if names.is_empty() {
        return Some("there are no labels".to_owned());
    }
    let good = |name: &String| {
        (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
    };
    if let Some(index) = names.iter().position(|name| !good(name)) {
        return Some(format!(
            "the name of label {index} is not 1 to {MAX_NAME_BYTES} bytes of printable text"
        ));
    }
    let bytes: usize = names.iter().map(String::len).sum();
    if bytes > MAX_BYTES {
        return Some(format!("the names of the labels have {bytes} bytes, more than {MAX_BYTES}"));
    }
    let mut seen = BTreeSet::new();
    let twice = names.iter().position(|name| !seen.insert(name));
    twice.map(|index| format!("label {index} has the name of another one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str]) -> Option<String> {
        problem(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn printable_names_that_differ_are_good() {
        for names in [&["toxic"][..], &["NEGATIVE", "POSITIVE"], &["größe", "a b", "1"]] {
            assert_eq!(found(names), None);
        }
    }

    #[test]
    fn each_problem_is_told() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for (names, part) in [
            (&[][..], "no labels"),
            (&["a", ""], "label 1"),
            (&["a\n"], "label 0"),
            (&[long.as_str()], "label 0"),
            (&["a", "b", "a"], "label 2"),
        ] {
            assert!(found(names).is_some_and(|problem| problem.contains(part)), "{names:?}");
        }
        let many: Vec<String> = (0..=MAX_BYTES / 5).map(|n| format!("{n:05}")).collect();
        assert!(problem(&many).is_some_and(|problem| problem.contains("65540 bytes")));
    }
}
