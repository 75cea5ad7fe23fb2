//! The tokens as settings. Without them there is no token.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Bearer, TokenError, read};
use crate::secret::Secret;

/// The token of workers.
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

/// The token of operators.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct OperatorTokenSettings {
    /// Token that operators need to change the fleet: its switch, machines, workers and dead letters; use the
    /// variable or the file, as others see flags [default: none is asked for]
    #[arg(
        id = "operator-token",
        long = "operator-token",
        env = "STOKER_OPERATOR_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub token: Option<Secret>,

    /// File that holds this token
    #[arg(
        id = "operator-token-file",
        long = "operator-token-file",
        env = "STOKER_OPERATOR_TOKEN_FILE",
        value_name = "FILE"
    )]
    pub token_file: Option<PathBuf>,
}

/// The token of autoscalers.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AutoscalerTokenSettings {
    /// Token that autoscalers need to lead the fleet; use the variable or the file, as others see flags
    /// [default: none is asked for, unless operators need one]
    #[arg(
        id = "autoscaler-token",
        long = "autoscaler-token",
        env = "STOKER_AUTOSCALER_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub token: Option<Secret>,

    /// File that holds this token
    #[arg(
        id = "autoscaler-token-file",
        long = "autoscaler-token-file",
        env = "STOKER_AUTOSCALER_TOKEN_FILE",
        value_name = "FILE"
    )]
    pub token_file: Option<PathBuf>,
}

// One and the same for all of them.
macro_rules! checked {
    ($($settings:ident is of $bearer:ident;)*) => {
        $(
            impl $settings {
                /// The token, read and checked; white space around it does not count.
                ///
                /// # Errors
                /// When it cannot be read or used.
                pub fn check(self) -> Result<Option<Secret>, TokenError> {
                    read(Bearer::$bearer, self.token, self.token_file)
                }
            }
        )*
    };
}

checked! {
    JoinSettings is of Worker;
    OperatorTokenSettings is of Operator;
    AutoscalerTokenSettings is of Autoscaler;
}
