//! The tokens with which the parties of a fleet show who they are, as coordinators and the parties are told them:
//! secrets that both ends have.

mod settings;

use std::fmt;
use std::path::PathBuf;

pub use settings::{AutoscalerTokenSettings, JoinSettings, OperatorTokenSettings};

use crate::secret::Secret;

/// Fewer characters can be guessed; more do not fit beside the other headers of a call.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=512;

/// Whose token it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bearer {
    /// Workers, which join the fleet.
    Worker,
    /// People, and programs in their place, who change what the fleet does.
    Operator,
    /// Autoscalers, which lead the ledger.
    Autoscaler,
}

impl Bearer {
    /// The flag of the token; that of its file has `-file` at its end, and variables are called alike.
    const fn flag(self) -> &'static str {
        match self {
            Self::Worker => "--join-token",
            Self::Operator => "--operator-token",
            Self::Autoscaler => "--autoscaler-token",
        }
    }

    const fn variable(self) -> &'static str {
        match self {
            Self::Worker => "STOKER_JOIN_TOKEN",
            Self::Operator => "STOKER_OPERATOR_TOKEN",
            Self::Autoscaler => "STOKER_AUTOSCALER_TOKEN",
        }
    }
}

impl fmt::Display for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Worker => "join token",
            Self::Operator => "operator token",
            Self::Autoscaler => "autoscaler token",
        })
    }
}

/// Why there is no usable token. The text never repeats it.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(
        "the {bearer} is given twice, by {} or {} and by {}-file or {}_FILE: leave one out",
        bearer.flag(), bearer.variable(), bearer.flag(), bearer.variable()
    )]
    Twice { bearer: Bearer },
    #[error(
        "cannot read the {bearer} from {} ({}-file or {}_FILE)",
        path.display(), bearer.flag(), bearer.variable()
    )]
    File {
        bearer: Bearer,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the {bearer} must have {} to {} visible ASCII characters without spaces: make one with \
         `openssl rand -hex 32`",
        LENGTHS.start(),
        LENGTHS.end()
    )]
    Unusable { bearer: Bearer },
}

/// The token of `bearer`, from a setting or from a file, checked; white space around it does not count.
///
/// # Errors
/// When both are given, or it cannot be read or used.
pub fn read(
    bearer: Bearer,
    token: Option<Secret>,
    file: Option<PathBuf>,
) -> Result<Option<Secret>, TokenError> {
    let text = match (token, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(TokenError::Twice { bearer }),
        (Some(token), None) => token.expose().to_owned(),
        (None, Some(path)) => std::fs::read_to_string(&path)
            .map_err(|source| TokenError::File { bearer, path, source })?,
    };
    let token = text.trim();
    let usable = LENGTHS.contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    if usable { Ok(Some(Secret::new(token))) } else { Err(TokenError::Unusable { bearer }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "0123456789abcdef0123456789abcdef";

    fn of(token: Option<&str>, file: Option<PathBuf>) -> Result<Option<Secret>, String> {
        read(Bearer::Worker, token.map(Secret::new), file).map_err(|error| error.to_string())
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

    #[test]
    fn each_token_is_called_by_its_own_name() {
        for (bearer, flag) in
            [(Bearer::Operator, "--operator-token"), (Bearer::Autoscaler, "--autoscaler-token")]
        {
            let both = read(bearer, Some(Secret::new(GOOD)), Some("f".into())).unwrap_err();
            assert!(both.to_string().contains(&format!("{flag}-file")), "{both}");
            let short = read(bearer, Some(Secret::new("x")), None).unwrap_err();
            assert!(short.to_string().starts_with(&format!("the {bearer} must")), "{short}");
        }
    }
}
