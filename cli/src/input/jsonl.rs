//! One JSON value per line: a text, or several that make one job.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::error::Category;

use super::{Group, Input, InputError, not_empty, utf8_lines};

const FORM: &str =
    r#"write "text", {"text": "..."} or {"texts": ["..."], "labels": {"key": "value"}}"#;

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Text(String),
    Object(Object),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    text: Option<String>,
    texts: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
}

/// Reads `bytes`; `name` stands for them in errors. Lines of nothing but white space are skipped.
pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Input, InputError> {
    let mut input = Input::default();
    for line in utf8_lines(name, bytes) {
        let (number, text) = line?;
        if text.trim().is_empty() {
            input.skipped += 1;
            continue;
        }
        let form =
            |message: String| InputError::Form { name: name.to_owned(), line: number, message };
        match read_line(name, number, text)? {
            Line::Text(text) => input.loose.push(checked(text, None).map_err(form)?),
            Line::Object(object) => add(&mut input, object).map_err(form)?,
        }
    }
    not_empty(name, bytes, input)
}

/// Two steps, so that a typing mistake is not reported as a wrong form and the other way round.
fn read_line(name: &str, line: usize, text: &str) -> Result<Line, InputError> {
    let form = |message: String| InputError::Form { name: name.to_owned(), line, message };
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        let message = match error.classify() {
            Category::Eof => "the line ends too early; each value must be on one line".to_owned(),
            Category::Io | Category::Syntax | Category::Data => without_position(&error),
        };
        InputError::NotJson { name: name.to_owned(), line, column: error.column(), message }
    })?;
    if value.is_object() {
        let object =
            Object::deserialize(value).map_err(|error| form(format!("{error}; {FORM}")))?;
        return Ok(Line::Object(object));
    }
    Line::deserialize(value).map_err(|_| form(format!("neither a string nor an object; {FORM}")))
}

/// The position is said before the message, with the line of the file and not of the value.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

fn add(input: &mut Input, object: Object) -> Result<(), String> {
    match object {
        Object { text: Some(text), texts: None, labels: None } => {
            input.loose.push(checked(text, None)?);
        }
        Object { text: None, texts: Some(texts), labels } => {
            if texts.is_empty() {
                return Err("`texts` is empty; leave the line out".to_owned());
            }
            let texts = texts.into_iter().enumerate();
            let texts = texts.map(|(index, text)| checked(text, Some(index)));
            let texts = texts.collect::<Result<_, _>>()?;
            input.groups.push(Group { items: texts, labels: labels.unwrap_or_default() });
        }
        Object { text: Some(_), texts: None, labels: Some(_) } => {
            return Err("labels belong to a job; write `texts` instead of `text`".to_owned());
        }
        Object { text: Some(_), texts: Some(_), .. } => {
            return Err("has both `text` and `texts`; write one of them".to_owned());
        }
        Object { text: None, texts: None, .. } => {
            return Err(format!("has neither `text` nor `texts`; {FORM}"));
        }
    }
    Ok(())
}

/// An empty text in data is a mistake somewhere: leaving it out would shift the results.
fn checked(text: String, index: Option<usize>) -> Result<String, String> {
    if !text.trim().is_empty() {
        return Ok(text);
    }
    Err(match index {
        None => "the text is empty; leave the line out".to_owned(),
        Some(index) => format!("texts[{index}] is empty; leave it out"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> String {
        parse("in.jsonl", bytes).unwrap_err().to_string()
    }

    #[test]
    fn every_form_is_read() {
        let bytes = br#""a"
{"text": "b"}

{"texts": ["c", "d"], "labels": {"k": "v"}}
{"texts": ["e"]}
"#;
        let input = parse("f", bytes).unwrap();
        assert_eq!(input.loose, ["a", "b"]);
        assert_eq!(input.skipped, 1);
        assert_eq!(input.groups[0].items, ["c", "d"]);
        assert_eq!(input.groups[0].labels["k"], "v");
        assert_eq!(input.groups[1].items, ["e"]);
        assert_eq!(input.items(), 5);
    }

    #[test]
    fn broken_json_is_named_by_line_and_column() {
        assert_eq!(error(b"\"a\"\n{\"text\" \"b\"}\n"), "in.jsonl:2:9: not JSON: expected `:`");
        let text = error(b"{\"text\": \n");
        assert!(text.contains("in.jsonl:1:"), "{text}");
        assert!(text.contains("each value must be on one line"), "{text}");
    }

    #[test]
    fn unknown_and_contradicting_keys_are_refused() {
        let text = error(br#"{"txt": "a"}"#);
        assert!(text.starts_with("in.jsonl:1: unknown field `txt`"), "{text}");
        assert!(error(br#"{"text":"a","texts":["b"]}"#).contains("both `text` and `texts`"));
        assert!(error(br#"{"labels":{}}"#).contains("neither `text` nor `texts`"));
        assert!(error(br#"{"text":"a","labels":{"k":"v"}}"#).contains("labels belong to a job"));
        assert!(error(b"[1]").contains("neither a string nor an object"));
        assert!(error(b"17").contains("neither a string nor an object"));
        assert!(error(br#"{"texts":["a", 1]}"#).contains("invalid type"));
    }

    #[test]
    fn empty_texts_are_errors_not_skipped() {
        assert_eq!(error(b"\"a\"\n\"\""), "in.jsonl:2: the text is empty; leave the line out");
        let text = error(br#"{"texts":["a"," "]}"#);
        assert_eq!(text, "in.jsonl:1: texts[1] is empty; leave it out");
        assert!(error(br#"{"texts":[]}"#).contains("`texts` is empty"));
    }

    #[test]
    fn an_escape_that_is_no_character_is_refused() {
        assert!(error(br#""\ud800""#).contains("not JSON"));
    }
}
