//! Under what a launch is made once, however often it is asked for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// As many as EC2 takes.
const LONGEST: usize = 64;

/// The name of one launch: 1 to 64 letters, digits, `-` and `_`. A cloud answers a repetition with the machines that
/// it launched the first time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LaunchToken(Box<str>);

/// A text that is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a launch token: use 1 to 64 letters, digits, `-` and `_`")]
pub struct NotAToken;

impl LaunchToken {
    pub fn new(text: &str) -> Result<Self, NotAToken> {
        let fits = (1..=LONGEST).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if fits { Ok(Self(text.into())) } else { Err(NotAToken) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LaunchToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for LaunchToken {
    type Error = NotAToken;

    fn try_from(text: String) -> Result<Self, NotAToken> {
        Self::new(&text)
    }
}

impl From<LaunchToken> for String {
    fn from(token: LaunchToken) -> Self {
        token.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_every_cloud_takes() {
        let longest = "f".repeat(64);
        for good in ["a", "0192f0c1-2d3e-7abc-8def-0123456789ab", longest.as_str()] {
            assert_eq!(LaunchToken::new(good).unwrap().as_str(), good);
        }
        let longer = "f".repeat(65);
        for bad in ["", "a b", "a:b", "ä", longer.as_str()] {
            assert_eq!(LaunchToken::new(bad), Err(NotAToken), "{bad}");
        }
    }
}
