//! What a classifier's `config.json` says about its labels.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use stoker_core::labels;
use stoker_engine_api::Labels;

use super::NOT_A_CLASSIFIER;
use crate::{LoadError, json};

/// Labels of a file that does not say how many there are.
const USUAL_LABELS: usize = 2;

#[derive(Deserialize)]
struct LabelsFile {
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    id2label: Option<BTreeMap<String, String>>,
    #[serde(default)]
    num_labels: Option<usize>,
    #[serde(default)]
    problem_type: Option<String>,
    #[serde(default)]
    function_to_apply: Option<String>,
}

/// The model's labels in the order of its outputs.
///
/// # Errors
/// When the file is missing or not valid, or describes something else than labels with scores.
pub(super) fn read(path: &Path) -> Result<Labels, LoadError> {
    let file: LabelsFile = json::read(path, NOT_A_CLASSIFIER)?;
    file.labels().map_err(|what| LoadError::Unsupported { path: path.to_owned(), what })
}

impl LabelsFile {
    fn labels(self) -> Result<Labels, String> {
        let architectures = self.architectures.as_deref().unwrap_or_default();
        let other = architectures.iter().find(|name| !name.ends_with("ForSequenceClassification"));
        if let Some(name) = other {
            return Err(format!(
                "architectures has {name}, expected one for sequence classification"
            ));
        }
        let names = match self.id2label {
            Some(names) if !names.is_empty() => in_order(&names)?,
            _ => (0..self.num_labels.unwrap_or(USUAL_LABELS).min(labels::MAX_BYTES))
                .map(|index| format!("LABEL_{index}"))
                .collect(),
        };
        if let Some(problem) = labels::problem(&names) {
            return Err(format!("id2label is not valid: {problem}"));
        }
        let problem = self.problem_type.as_deref();
        let exclusive = is_exclusive(problem, self.function_to_apply.as_deref(), names.len())?;
        Ok(Labels { names, exclusive })
    }
}

/// The names by their numbers, which are the keys.
fn in_order(names: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let name = |index: usize| {
        let name = names.get(&index.to_string());
        name.cloned().ok_or_else(|| {
            format!("id2label has {} names, but none for label {index}", names.len())
        })
    };
    (0..names.len()).map(name).collect()
}

/// Whether scores are shares of one whole (softmax), or each a probability of its own (sigmoid); by
/// the rules of transformers' pipeline.
fn is_exclusive(
    problem: Option<&str>,
    function: Option<&str>,
    labels: usize,
) -> Result<bool, String> {
    match function {
        Some("softmax") => return Ok(true),
        Some("sigmoid") => return Ok(false),
        Some(other) => {
            return Err(format!("function_to_apply is `{other}`, expected softmax or sigmoid"));
        }
        None => {}
    }
    match problem {
        Some("single_label_classification") | None => Ok(labels > 1),
        Some("multi_label_classification") => Ok(false),
        Some(other) => Err(format!(
            "problem_type is `{other}`, expected single_label_classification or \
             multi_label_classification"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(json: &str) -> Result<Labels, String> {
        serde_json::from_str::<LabelsFile>(json).unwrap().labels()
    }

    fn read(json: &str) -> (String, bool) {
        let Labels { names, exclusive } = labels(json).unwrap();
        (names.join(" "), exclusive)
    }

    #[test]
    fn names_come_in_the_order_of_their_numbers() {
        let names: Vec<String> = (0..11).map(|n| format!("\"{n}\": \"l{n}\"")).collect();
        let (found, exclusive) = read(&format!("{{\"id2label\": {{{}}}}}", names.join(", ")));
        assert_eq!(found, "l0 l1 l2 l3 l4 l5 l6 l7 l8 l9 l10");
        assert!(exclusive);
    }

    #[test]
    fn what_is_left_out_is_as_transformers_has_it() {
        assert_eq!(read("{}"), ("LABEL_0 LABEL_1".to_owned(), true));
        assert_eq!(read(r#"{"id2label": null, "num_labels": 3}"#).0, "LABEL_0 LABEL_1 LABEL_2");
        // One label can only be there or not.
        assert_eq!(read(r#"{"id2label": {"0": "toxic"}}"#), ("toxic".to_owned(), false));
    }

    #[test]
    fn scores_are_shares_or_each_their_own() {
        for (json, exclusive) in [
            (r#"{"problem_type": "single_label_classification"}"#, true),
            (r#"{"problem_type": "multi_label_classification"}"#, false),
            (r#"{"problem_type": null, "function_to_apply": "sigmoid"}"#, false),
            (
                r#"{"problem_type": "multi_label_classification", "function_to_apply": "softmax"}"#,
                true,
            ),
        ] {
            assert_eq!(read(json).1, exclusive, "{json}");
        }
    }

    #[test]
    fn what_is_no_classifier_or_makes_no_sense_is_refused() {
        for (json, part) in [
            (r#"{"architectures": ["BertForTokenClassification"]}"#, "BertForTokenClassification"),
            (r#"{"problem_type": "regression"}"#, "regression"),
            (r#"{"function_to_apply": "none"}"#, "none"),
            (r#"{"id2label": {"0": "a", "2": "c"}}"#, "none for label 1"),
            (r#"{"id2label": {"0": "a", "1": "a"}}"#, "label 1"),
            (r#"{"num_labels": 0}"#, "no labels"),
            (r#"{"num_labels": 18446744073709551615}"#, "bytes"),
        ] {
            let error = labels(json).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
