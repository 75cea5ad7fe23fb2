//! Settings of a policy: what can be told to it, in which range, and what it takes otherwise.

use std::collections::BTreeMap;
use std::fmt;

/// A number that a policy can be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    pub key: &'static str,
    /// What it takes otherwise, for people: a number, or what it is made from.
    pub otherwise: &'static str,
    pub least: f64,
    pub most: f64,
    pub is_whole: bool,
}

impl Setting {
    /// A number from `least` to `most`.
    pub(super) const fn number(
        key: &'static str,
        otherwise: &'static str,
        (least, most): (f64, f64),
    ) -> Self {
        Self { key, otherwise, least, most, is_whole: false }
    }

    /// A whole number from `least` to `most`.
    pub(super) const fn whole(
        key: &'static str,
        otherwise: &'static str,
        (least, most): (f64, f64),
    ) -> Self {
        Self { key, otherwise, least, most, is_whole: true }
    }

    /// Takes a number in its range, or says what it must be.
    pub(super) fn parse(&self, text: &str) -> Result<f64, String> {
        let holds = |number: &f64| {
            (self.least..=self.most).contains(number) && (!self.is_whole || number.fract() == 0.0)
        };
        let number = text.parse::<f64>().ok().filter(holds);
        number.ok_or_else(|| format!("`{}` must be {}, not `{text}`", self.key, self.range()))
    }

    fn range(&self) -> String {
        let kind = if self.is_whole { "a whole number" } else { "a number" };
        format!("{kind} from {} to {}", self.least, self.most)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} ({} to {})", self.key, self.otherwise, self.least, self.most)
    }
}

/// Values of settings by key.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Values(BTreeMap<&'static str, f64>);

impl Values {
    pub(super) fn of<const N: usize>(values: [(&'static str, f64); N]) -> Self {
        Self(BTreeMap::from(values))
    }

    pub(super) fn set(&mut self, key: &'static str, value: f64) {
        self.0.insert(key, value);
    }

    /// These, with what `told` says instead.
    #[must_use]
    pub fn with(mut self, told: &Self) -> Self {
        self.0.extend(&told.0);
        self
    }

    /// 0 for a key that it does not have.
    pub(super) fn get(&self, key: &str) -> f64 {
        self.0.get(key).copied().unwrap_or(0.0)
    }

    pub(super) fn count(&self, key: &str) -> usize {
        crate::fleet::job::whole(self.get(key))
    }

    pub(super) fn millis(&self, key: &str) -> crate::fleet::job::Millis {
        crate::fleet::job::millis(self.get(key))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}
