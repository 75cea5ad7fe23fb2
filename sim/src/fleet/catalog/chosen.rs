//! A policy that was chosen, with what it was told: `keda-queue-length:target=4,min=1`.

use std::ffi::OsStr;
use std::str::FromStr;

use clap::ValueEnum;
use clap::builder::{PossibleValue, TypedValueParser};

use crate::fleet::catalog::{PolicyName, Setting, Values};

/// A policy, and the settings that were said.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    pub name: PolicyName,
    pub told: Values,
}

impl Chosen {
    /// The policy as its document has it.
    pub fn by_default(name: PolicyName) -> Self {
        Self { name, told: Values::default() }
    }
}

impl FromStr for Chosen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, settings) = text.split_once(':').unwrap_or((text, ""));
        let policy = PolicyName::from_str(name, false).map_err(|_| {
            let names = PolicyName::value_variants().iter().map(ToString::to_string);
            format!(
                "no policy is called `{name}`; there are {}",
                names.collect::<Vec<_>>().join(", ")
            )
        })?;
        let mut told = Values::default();
        for pair in settings.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("write `{pair}` as KEY=NUMBER; {}", known(policy)))?;
            let setting = policy.settings().into_iter().find(|setting| setting.key == key);
            let setting =
                setting.ok_or_else(|| format!("{policy} has no `{key}`; {}", known(policy)))?;
            let value = setting.parse(value).map_err(|error| format!("{policy}: {error}"))?;
            told.set(setting.key, value);
        }
        Ok(Self { name: policy, told })
    }
}

/// What can be told to it, as a sentence.
fn known(policy: PolicyName) -> String {
    match listed(policy) {
        None => format!("{policy} has no settings"),
        Some(settings) => format!("its settings are {settings}"),
    }
}

fn listed(policy: PolicyName) -> Option<String> {
    let settings: Vec<String> = policy.settings().iter().map(Setting::to_string).collect();
    (!settings.is_empty()).then(|| settings.join(", "))
}

/// Takes a [`Chosen`] from a command line, and tells its help and completions what there is.
#[derive(Debug, Clone, Copy)]
pub struct ChosenParser;

impl TypedValueParser for ChosenParser {
    type Value = Chosen;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Chosen, clap::Error> {
        let parse: fn(&str) -> Result<Chosen, String> = Chosen::from_str;
        parse.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let described = |policy: &PolicyName| {
            let value = policy.to_possible_value()?;
            let help = value.get_help().map(ToString::to_string).unwrap_or_default();
            let help = match listed(*policy) {
                Some(settings) => format!("{help}; {settings}"),
                None => help,
            };
            Some(value.help(help))
        };
        Some(Box::new(PolicyName::value_variants().iter().filter_map(described)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_chosen_with_what_it_is_told() {
        let chosen: Chosen = "keda-queue-length:target=4,min=2".parse().unwrap();
        assert_eq!(chosen.name, PolicyName::KedaQueueLength);
        assert_eq!(chosen.told, Values::of([("target", 4.0), ("min", 2.0)]));
        assert_eq!("knative".parse(), Ok(Chosen::by_default(PolicyName::Knative)));
    }

    #[test]
    fn what_it_cannot_be_told_is_said_with_what_it_can() {
        for (text, said) in [
            ("magic", "no policy is called `magic`; there are stoker, always-on, last-peak"),
            (
                "knative:size=1",
                "knative has no `size`; its settings are target=0.7 (0.01 to 1000000), min=0 (0 to 1000)",
            ),
            ("knative:target", "write `target` as KEY=NUMBER; its settings are target=0.7"),
            (
                "knative:target=x",
                "knative: `target` must be a number from 0.01 to 1000000, not `x`",
            ),
            (
                "knative:target=0",
                "knative: `target` must be a number from 0.01 to 1000000, not `0`",
            ),
            ("knative:min=1.5", "knative: `min` must be a whole number from 0 to 1000, not `1.5`"),
            ("stoker:min=1", "stoker has no `min`; stoker has no settings"),
        ] {
            let error = text.parse::<Chosen>().unwrap_err();
            assert!(error.starts_with(said), "{text}: {error}");
        }
    }
}
