//! Prompts: texts that a model wants before its inputs, such as `query: `, under the names by which
//! jobs ask for them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bytes that a prompt's name may have.
pub const MAX_NAME_BYTES: usize = 63;

/// Bytes that a prompt's text may have: it is part of every input.
pub const MAX_TEXT_BYTES: usize = 4 << 10;

/// A model's prompts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Prompts {
    texts: BTreeMap<String, String>,
    /// The name of the one for jobs that ask for none.
    default: Option<String>,
}

impl Prompts {
    /// # Errors
    /// What is wrong, with the name of the prompt where it is one's.
    pub fn new(
        texts: BTreeMap<String, String>,
        default: Option<String>,
    ) -> Result<Self, (Option<String>, String)> {
        for (name, text) in &texts {
            let problem = if !is_name(name) {
                format!("is not a name of 1 to {MAX_NAME_BYTES} characters of a-z, 0-9, `-`, `_`")
            } else if text.len() > MAX_TEXT_BYTES {
                format!("has {} bytes and may have {MAX_TEXT_BYTES}", text.len())
            } else {
                continue;
            };
            return Err((Some(name.clone()), problem));
        }
        if let Some(name) = default.as_ref().filter(|name| !texts.contains_key(*name)) {
            let names: Vec<&str> = texts.keys().map(String::as_str).collect();
            let problem = format!("there is no prompt `{name}`; there are: {}", names.join(", "));
            return Err((None, problem));
        }
        Ok(Self { texts, default })
    }

    /// What stands before each input of a job that asks for the prompt `name`, or for none if that
    /// is empty; `None` if there is no such prompt.
    pub fn prefix(&self, name: &str) -> Option<&str> {
        let name = if name.is_empty() { self.default.as_deref() } else { Some(name) };
        name.map_or(Some(""), |name| self.texts.get(name).map(String::as_str))
    }

    /// Whether jobs that ask for none get one.
    pub const fn has_default(&self) -> bool {
        self.default.is_some()
    }

    /// In their order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &String> {
        self.texts.keys()
    }
}

fn is_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(names: &[&str], default: Option<&str>) -> Result<Prompts, (Option<String>, String)> {
        let texts = names.iter().map(|name| ((*name).to_owned(), format!("{name}: ")));
        Prompts::new(texts.collect(), default.map(str::to_owned))
    }

    #[test]
    fn a_job_gets_the_prompt_that_it_asks_for() {
        let some = prompts(&["query", "passage"], None).unwrap();
        assert_eq!(some.prefix("query"), Some("query: "));
        assert_eq!((some.prefix(""), some.prefix("other")), (Some(""), None));
        let usual = prompts(&["query", "passage"], Some("passage")).unwrap();
        assert_eq!((usual.prefix(""), usual.prefix("query")), (Some("passage: "), Some("query: ")));
        assert_eq!(Prompts::default().prefix(""), Some(""));
        assert_eq!(Prompts::default().prefix("query"), None);
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused() {
        assert_eq!(prompts(&["Query"], None).unwrap_err().0.as_deref(), Some("Query"));
        assert_eq!(prompts(&[""], None).unwrap_err().0.as_deref(), Some(""));
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        assert!(prompts(&[&long], None).is_err());
        let (name, problem) = prompts(&["a", "b"], Some("c")).unwrap_err();
        assert!(name.is_none() && problem.contains("no prompt `c`; there are: a, b"), "{problem}");
        let texts = BTreeMap::from([("a".to_owned(), "x".repeat(MAX_TEXT_BYTES + 1))]);
        assert!(Prompts::new(texts, None).is_err());
    }
}
