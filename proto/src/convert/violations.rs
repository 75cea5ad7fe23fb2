//! Collecting what is wrong with a request: all of it at once, but not without bound.

use crate::status::FieldViolation;

/// A hostile request can be wrong in every one of a million fields; nobody reads that.
const MOST: usize = 20;

/// Violations found so far. Later ones than the first [`MOST`] are dropped.
#[derive(Debug, Default)]
pub(super) struct Violations(Vec<FieldViolation>);

impl Violations {
    pub(super) fn add(&mut self, violation: FieldViolation) {
        if self.0.len() < MOST {
            self.0.push(violation);
        }
    }

    /// The value, or `None` after its violation was noted.
    pub(super) fn note<T>(&mut self, result: Result<T, FieldViolation>) -> Option<T> {
        result.map_err(|violation| self.add(violation)).ok()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MOST
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_vec(self) -> Vec<FieldViolation> {
        self.0
    }
}

/// All values, or what is wrong with any of them.
pub(super) fn collect<T>(
    results: impl Iterator<Item = Result<T, Vec<FieldViolation>>>,
) -> Result<Vec<T>, Vec<FieldViolation>> {
    let mut values = Vec::with_capacity(results.size_hint().0);
    let mut violations = Violations::default();
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(found) => found.into_iter().for_each(|violation| violations.add(violation)),
        }
        if violations.is_full() {
            break;
        }
    }
    if violations.is_empty() { Ok(values) } else { Err(violations.into_vec()) }
}

/// A message field that must be there.
pub fn required<T>(value: Option<T>, field: &str) -> Result<T, FieldViolation> {
    value.ok_or_else(|| FieldViolation::new(field, "is missing"))
}
