//! The token with which a worker shows that it belongs to the fleet, as coordinators and workers are told it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// Fewer characters can be guessed; more do not fit beside the other headers of a call.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=512;

/// The settings as written. Without them there is no token.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct JoinSettings {
    /// Token that workers need to join the fleet; use the variable or the file, as others see flags
    /// [default: none is asked for]
    #[arg(
        id = "join-token",
        long = "join-token",
        env = "STOKER_JOIN_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub token: Option<Secret>,

    /// File that holds this token
    #[arg(
        id = "join-token-file",
        long = "join-token-file",
        env = "STOKER_JOIN_TOKEN_FILE",
        value_name = "FILE"
    )]
    pub token_file: Option<PathBuf>,
}

/// Why there is no usable token. The text never repeats it.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(
        "the join token is given twice, by --join-token or STOKER_JOIN_TOKEN and by \
         --join-token-file or STOKER_JOIN_TOKEN_FILE: leave one out"
    )]
    Twice,
    #[error("cannot read the join token from {} (--join-token-file)", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the join token must have {} to {} visible ASCII characters without spaces: make one with \
         `openssl rand -hex 32`",
        LENGTHS.start(),
        LENGTHS.end()
    )]
    Unusable,
}

impl JoinSettings {
    /// The token, read and checked; white space around it does not count.
    ///
    /// # Errors
    /// When it cannot be read or used.
    pub fn check(self) -> Result<Option<Secret>, JoinError> {
        let text = match (self.token, self.token_file) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err(JoinError::Twice),
            (Some(token), None) => token.expose().to_owned(),
            (None, Some(path)) => {
                std::fs::read_to_string(&path).map_err(|source| JoinError::File { path, source })?
            }
        };
        let token = text.trim();
        let usable = LENGTHS.contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
        if usable { Ok(Some(Secret::new(token))) } else { Err(JoinError::Unusable) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "0123456789abcdef0123456789abcdef";

    fn of(token: Option<&str>, file: Option<PathBuf>) -> Result<Option<Secret>, String> {
        let settings = JoinSettings { token: token.map(Secret::new), token_file: file };
        settings.check().map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_comes_from_the_setting_or_from_a_file_and_never_from_both() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, format!("{GOOD}\n")).unwrap();
        let good = Some(Secret::new(GOOD));
        assert_eq!(of(None, None), Ok(None));
        assert_eq!(of(Some(GOOD), None), Ok(good.clone()));
        assert_eq!(of(None, Some(file.clone())), Ok(good));
        assert!(of(Some(GOOD), Some(file)).unwrap_err().contains("twice"));
        let missing = of(None, Some(folder.path().join("missing"))).unwrap_err();
        assert!(missing.contains("missing") && missing.contains("--join-token-file"), "{missing}");
    }

    #[test]
    fn a_token_that_can_be_guessed_or_not_be_sent_is_refused_without_repeating_it() {
        let long = "x".repeat(513);
        for bad in
            ["", " ", "hunter2", "hunter2 hunter2 hunter2", "hunter2hunter2hunter\u{fc}", &long]
        {
            let error = of(Some(bad), None).unwrap_err();
            assert!(error.contains("16 to 512") && !error.contains("hunter2"), "{error}");
        }
    }
}
