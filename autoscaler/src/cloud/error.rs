//! What a cloud's refusal says, sorted into a class that everything behind goes by.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use stoker_core::cloud::ErrorClass;

/// Longest text of a cloud that is kept: it may be a page of HTML.
const LONGEST_MESSAGE: usize = 500;

/// What was asked of a cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    Launch,
    Rehearse,
    List,
    Terminate,
    Prices,
    Types,
    Setup,
    Quotas,
}

/// A call that a cloud refused, or did not answer. What follows is `stoker_core::cloud::reaction` of its class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("cannot {verb}: {message}{}", Code(code.as_deref()))]
pub struct CloudError {
    pub class: ErrorClass,
    pub verb: Verb,
    /// The cloud's own name for it, if it gave one.
    pub code: Option<String>,
    /// What the cloud said, or what happened on the way. Never holds credentials.
    pub message: String,
}

impl Verb {
    pub const ALL: [Self; 8] = [
        Self::Launch,
        Self::Rehearse,
        Self::List,
        Self::Terminate,
        Self::Prices,
        Self::Types,
        Self::Setup,
        Self::Quotas,
    ];

    /// Whether a call whose outcome is not known may have changed something.
    pub const fn changes(self) -> bool {
        match self {
            Self::Launch | Self::Terminate => true,
            Self::Rehearse
            | Self::List
            | Self::Prices
            | Self::Types
            | Self::Setup
            | Self::Quotas => false,
        }
    }

    /// The class of a call of this kind that was sent and not answered in a way that says what was done.
    pub const fn unanswered(self) -> ErrorClass {
        if self.changes() { ErrorClass::Unknown } else { ErrorClass::Transient }
    }

    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Rehearse => "rehearse",
            Self::List => "list",
            Self::Terminate => "terminate",
            Self::Prices => "prices",
            Self::Types => "types",
            Self::Setup => "setup",
            Self::Quotas => "quotas",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Launch => "launch machines",
            Self::Rehearse => "launch machines, says a dry run",
            Self::List => "list machines",
            Self::Terminate => "terminate machines",
            Self::Prices => "read spot prices",
            Self::Types => "read machine types",
            Self::Setup => "read what machines are launched from",
            Self::Quotas => "read quotas",
        })
    }
}

impl CloudError {
    /// An error without a code of the cloud's. A message that is too long is cut.
    pub fn new(class: ErrorClass, verb: Verb, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
            message.truncate(end);
            message.push('…');
        }
        Self { class, verb, code: None, message }
    }

    #[must_use]
    pub fn with_code(self, code: impl Into<String>) -> Self {
        Self { code: Some(code.into()), ..self }
    }
}

/// How a code stands behind a message.
struct Code<'a>(Option<&'a str>);

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |code| write!(f, " ({code})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_was_asked_and_what_the_cloud_calls_it() {
        let error = CloudError::new(ErrorClass::Quota, Verb::Launch, "you may have 8 vCPUs");
        assert_eq!(error.to_string(), "cannot launch machines: you may have 8 vCPUs");
        let error = error.with_code("VcpuLimitExceeded");
        assert!(error.to_string().ends_with("8 vCPUs (VcpuLimitExceeded)"), "{error}");
    }

    #[test]
    fn a_page_of_html_is_cut() {
        let error = CloudError::new(ErrorClass::Transient, Verb::List, "ä".repeat(10_000));
        assert_eq!(error.message.chars().count(), LONGEST_MESSAGE + 1);
    }

    #[test]
    fn only_what_changes_something_can_have_an_unknown_outcome() {
        for verb in Verb::ALL {
            assert_eq!(verb.unanswered() == ErrorClass::Unknown, verb.changes(), "{verb:?}");
        }
    }
}
