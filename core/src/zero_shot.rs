//! Labels that a job, or the model's entry in the fleet file, gives to a model that was trained with none: each
//! is put into a sentence, and images are compared with the sentences.

use serde::{Deserialize, Serialize};

use crate::labels;

/// Labels of one job. Each is read by the model's network of texts.
pub const MAX_LABELS: usize = 1_000;

/// Bytes of a template.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 10;

/// The place of the label in a template.
pub const PLACE: &str = "{}";

/// The template where neither job nor model has one. It is that of the pipeline of transformers.
pub const DEFAULT_TEMPLATE: &str = "This is a photo of {}.";

/// What is wrong with the labels.
pub fn labels_problem(names: &[String]) -> Option<String> {
    if names.len() > MAX_LABELS {
        return Some(format!(
            "there are {} labels, at most {MAX_LABELS} are compared",
            names.len()
        ));
    }
    labels::problem(names)
}

/// What is wrong with a template.
pub fn template_problem(template: &str) -> Option<String> {
    if template.len() > MAX_TEMPLATE_BYTES {
        return Some(format!("has {} bytes and may have {MAX_TEMPLATE_BYTES}", template.len()));
    }
    if template.chars().any(char::is_control) {
        return Some("has control characters: use printable text".to_owned());
    }
    let places = template.matches(PLACE).count();
    (places != 1).then(|| format!("has `{PLACE}` {places} times: it stands once, for the label"))
}

/// The sentence of a label.
pub fn sentence(template: &str, label: &str) -> String {
    template.replacen(PLACE, label, 1)
}

/// What a model's entry in the fleet file says for jobs that say less.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZeroShot {
    /// Empty: each job names its own.
    labels: Vec<String>,
    template: String,
}

impl Default for ZeroShot {
    fn default() -> Self {
        Self { labels: Vec::new(), template: DEFAULT_TEMPLATE.to_owned() }
    }
}

impl ZeroShot {
    /// # Errors
    /// The key in the model's entry, and what is wrong with it.
    pub fn new(
        labels: Vec<String>,
        template: Option<String>,
    ) -> Result<Self, (&'static str, String)> {
        if !labels.is_empty()
            && let Some(problem) = labels_problem(&labels)
        {
            return Err(("labels", format!("are not valid: {problem}")));
        }
        let template = template.unwrap_or_else(|| DEFAULT_TEMPLATE.to_owned());
        match template_problem(&template) {
            Some(problem) => Err(("label-template", problem)),
            None => Ok(Self { labels, template }),
        }
    }

    /// The labels for a job with `labels`; empty if neither it nor the model has any.
    pub fn labels_for<'a>(&'a self, labels: &'a [String]) -> &'a [String] {
        if labels.is_empty() { &self.labels } else { labels }
    }

    /// The template for a job with `template`, which is empty if it has none.
    pub fn template_for<'a>(&'a self, template: &'a str) -> &'a str {
        if template.is_empty() { &self.template } else { template }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_label_stands_once_in_its_sentence() {
        assert_eq!(sentence(DEFAULT_TEMPLATE, "a {} cat"), "This is a photo of a {} cat.");
        assert_eq!(template_problem("{}"), None);
        for bad in ["", "no place", "{} and {}", "{}\n", &format!("{{}}{}", "x".repeat(1_023))] {
            assert!(template_problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn labels_are_bounded_and_named_once() {
        assert_eq!(labels_problem(&names(&["cat", "dog"])), None);
        for bad in [names(&[]), names(&["a", "a"]), (0..=1_000).map(|n| n.to_string()).collect()] {
            assert!(labels_problem(&bad).is_some(), "{}", bad.len());
        }
    }

    #[test]
    fn what_a_job_leaves_out_is_the_model_s() {
        let model = ZeroShot::new(names(&["cat"]), Some("a {}".to_owned())).unwrap();
        assert_eq!(model.labels_for(&[]), ["cat"]);
        assert_eq!(model.labels_for(&names(&["dog"])), ["dog"]);
        assert_eq!((model.template_for(""), model.template_for("the {}")), ("a {}", "the {}"));
        assert_eq!(ZeroShot::new(Vec::new(), None), Ok(ZeroShot::default()));
        assert!(ZeroShot::default().labels_for(&[]).is_empty());
        assert_eq!(ZeroShot::new(names(&["a", "a"]), None).unwrap_err().0, "labels");
        let template = Some("a".to_owned());
        assert_eq!(ZeroShot::new(Vec::new(), template).unwrap_err().0, "label-template");
    }
}
