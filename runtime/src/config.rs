//! Process configuration in layers: TOML file below, environment and flags above, key by key.
//!
//! Each binary has one struct that derives `clap::Args`, `Serialize` and `Deserialize`, with every
//! field an `Option`, `#[serde(deny_unknown_fields, rename_all = "kebab-case")]`, and
//! `env = "STOKER_..."` on its flags. Defaults are applied when the service turns it into its own
//! checked settings. What the fleet is (`fleet.toml`) is parsed with the same functions.

mod error;

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Value;

pub use error::{ConfigError, Position};
pub use stoker_core::units::{ByteSize, HumanDuration, ParseUnitError};

use crate::secret::serializing_exposed;

/// Environment variables of ours begin with it.
const PREFIX: &str = "STOKER_";

/// A larger configuration file is a mistake, such as the path of a data file.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// The file's settings with those of `flags_and_env` over them.
///
/// A key that is set above hides the same key below; tables are merged, lists are replaced whole.
pub fn layered<T>(file: Option<&Path>, flags_and_env: T) -> Result<T, ConfigError>
where
    T: Serialize + DeserializeOwned,
{
    let Some(path) = file else { return Ok(flags_and_env) };
    let below: T = read_toml(path)?;
    let merged = serializing_exposed(|| {
        Ok(merge(Value::try_from(&below)?, Value::try_from(&flags_and_env)?))
    })
    .map_err(|source: toml::ser::Error| ConfigError::Merge { source: Box::new(source) })?;
    // The tree holds secrets in the clear: it is consumed here and shown nowhere.
    serde_path_to_error::deserialize(merged).map_err(|error| ConfigError::from_merged(path, error))
}

/// Reads a TOML file.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = read_text(path)?;
    parse_toml(&text, &path.display().to_string())
}

/// Parses TOML; `origin` names the text in errors, usually its path.
pub fn parse_toml<T: DeserializeOwned>(text: &str, origin: &str) -> Result<T, ConfigError> {
    let deserializer = toml::Deserializer::parse(text)
        .map_err(|error| ConfigError::from_toml(text, origin, None, &error))?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let key = error.path().to_string();
        ConfigError::from_toml(text, origin, Some(key), error.inner())
    })
}

/// Names of environment variables that configure programs of this project. A parent that configures
/// its children by itself removes them: what a person has set was meant for something else.
pub fn settings_in_environment() -> Vec<OsString> {
    let ours = |name: &OsString| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
    std::env::vars_os().map(|(name, _)| name).filter(ours).collect()
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let read_error = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(read_error)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(read_error)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
            limit: ByteSize::from_bytes(MAX_FILE_BYTES),
        });
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        ConfigError::NotUtf8 { path: path.to_owned(), line: error::line_of(valid) }
    })
}

fn merge(below: Value, above: Value) -> Value {
    match (below, above) {
        (Value::Table(mut below), Value::Table(above)) => {
            for (key, value) in above {
                let value = match below.remove(&key) {
                    Some(hidden) => merge(hidden, value),
                    None => value,
                };
                below.insert(key, value);
            }
            Value::Table(below)
        }
        (_, above) => above,
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
