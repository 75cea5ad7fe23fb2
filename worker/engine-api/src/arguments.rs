//! Command lines of engine processes: `--name value` pairs, nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::StartError;

const REMEDY: &str = "see --help for the arguments of this engine";

/// Named arguments that were given, each taken at most once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    values: BTreeMap<String, String>,
}

impl Arguments {
    /// Parses `--name value` and `--name=value`, without the program's name.
    ///
    /// # Errors
    /// For a name that is not in `known`, given twice or without a value.
    pub fn parse(
        arguments: impl IntoIterator<Item = String>,
        known: &[&str],
    ) -> Result<Self, StartError> {
        let mut arguments = arguments.into_iter();
        let mut values = BTreeMap::new();
        while let Some(argument) = arguments.next() {
            let Some(rest) = argument.strip_prefix("--") else {
                return Err(refuse(format!("unexpected argument `{argument}`")));
            };
            let (name, inline) = match rest.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (rest, None),
            };
            if !known.contains(&name) {
                let list = known.join(", --");
                return Err(refuse(format!("unknown argument `--{name}`, known are --{list}")));
            }
            let Some(value) = inline.or_else(|| arguments.next()) else {
                return Err(refuse(format!("argument `--{name}` has no value")));
            };
            if values.insert(name.to_owned(), value).is_some() {
                return Err(refuse(format!("argument `--{name}` is given twice")));
            }
        }
        Ok(Self { values })
    }

    /// The value of an argument that may be left out.
    ///
    /// # Errors
    /// When it is given and cannot be parsed.
    pub fn optional<T>(&mut self, name: &str) -> Result<Option<T>, StartError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        self.optional_with(name, T::from_str)
    }

    /// The same, for types whose text form is not their `FromStr`.
    ///
    /// # Errors
    /// When it is given and cannot be parsed.
    pub fn optional_with<T, E: fmt::Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, StartError> {
        let Some(value) = self.values.remove(name) else { return Ok(None) };
        let parsed = parse(&value);
        parsed.map(Some).map_err(|error| {
            refuse(format!("argument `--{name}`: `{value}` is not valid: {error}"))
        })
    }

    /// The value of an argument that must be given.
    ///
    /// # Errors
    /// When it is missing or cannot be parsed.
    pub fn required<T>(&mut self, name: &str) -> Result<T, StartError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        self.optional(name)?.ok_or_else(|| refuse(format!("argument `--{name}` is missing")))
    }
}

fn refuse(message: String) -> StartError {
    StartError::new(message, REMEDY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, StartError> {
        Arguments::parse(line.split_whitespace().map(str::to_owned), &["model", "lanes"])
    }

    #[test]
    fn both_forms_are_read() {
        let mut arguments = parse("--model=a=b --lanes 3").unwrap();
        assert_eq!(arguments.required::<String>("model").unwrap(), "a=b");
        assert_eq!(arguments.optional::<u32>("lanes").unwrap(), Some(3));
        assert_eq!(arguments.optional::<u32>("lanes").unwrap(), None);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("model", "unexpected argument `model`"),
            ("--modle x", "unknown argument `--modle`, known are --model, --lanes"),
            ("--model", "`--model` has no value"),
            ("--model a --model b", "given twice"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.message.contains(part), "{line}: {error}");
        }
        let error = parse("--lanes many").unwrap().optional::<u32>("lanes").unwrap_err();
        assert!(error.message.contains("`many` is not valid"), "{error}");
        let error = parse("").unwrap().required::<String>("model").unwrap_err();
        assert!(error.message.contains("`--model` is missing"), "{error}");
    }
}
