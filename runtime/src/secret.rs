//! Values that must not reach a log: passwords, keys, and URIs that carry them.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const REDACTED: &str = "***";

/// A string that shows itself only through [`Secret::expose`].
///
/// `Debug`, `Display` and serialization give `***`, so a printed configuration is safe to share. A
/// flag of this type that can also come from the environment needs `hide_env_values = true`, or
/// `--help` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself. Pass it on to where it is needed; never format it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// Unlike the derived one, it repeats no value in its errors: a password of digits without quotes
/// is a number to the parser.
struct SecretVisitor;

impl SecretVisitor {
    fn refuse<E: de::Error>() -> Result<Secret, E> {
        Err(E::custom("a secret must be a string in quotes"))
    }
}

impl Visitor<'_> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        Self::refuse()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        Self::refuse()
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Secret, E> {
        Self::refuse()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        Self::refuse()
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Secret, E> {
        Self::refuse()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        Self::refuse()
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if EXPOSED.get() { &self.0 } else { REDACTED })
    }
}

thread_local! {
    static EXPOSED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body` with secrets serialized in the clear, on this thread only.
///
/// Configuration layers are merged as trees, which must not lose the secrets in them.
pub(crate) fn serializing_exposed<T>(body: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            EXPOSED.set(self.0);
        }
    }
    let _restore = Restore(EXPOSED.replace(true));
    body()
}

/// `uri` with the user and password, and any query, replaced by `***`.
///
/// The query goes too because drivers accept credentials there (`?password=`, `?auth=`). Text
/// without `://` comes back without anything before its last `@`.
pub fn redact_uri(uri: &str) -> String {
    let (prefix, rest) = match uri.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), uri),
    };
    // A password may hold an unescaped `/`, `?` or `#`, so look for the `@` in everything after
    // the scheme and accept hiding part of a path that contains one.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("***@", rest),
        None => ("", rest),
    };
    match rest.split_once(['?', '#']) {
        Some((before, _)) => format!("{prefix}{user}{before}?{REDACTED}"),
        None => format!("{prefix}{user}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Holder {
        password: Secret,
    }

    #[test]
    fn a_secret_is_redacted_in_every_output() {
        let holder: Holder = toml::from_str("password = 'hunter2'").unwrap();
        let outputs = [
            format!("{holder:?}"),
            format!("{:#?}", holder.password),
            holder.password.to_string(),
            toml::to_string(&holder).unwrap(),
        ];
        for output in outputs {
            assert!(!output.contains("hunter2") && output.contains("***"), "{output}");
        }
        assert_eq!(holder.password.expose(), "hunter2");
    }

    #[test]
    fn a_secret_of_the_wrong_type_is_not_repeated_in_the_error() {
        for value in ["8675309", "-8675309", "867.5309", "true", "[8675309]", "{ a = 8675309 }"] {
            let error = toml::from_str::<Holder>(&format!("password = {value}")).unwrap_err();
            assert!(error.message().contains("string in quotes"), "{error}");
            assert!(!error.message().contains("867"), "{error}");
        }
    }

    #[test]
    fn exposure_ends_with_its_scope() {
        let holder = Holder { password: Secret::new("hunter2") };
        let inside = serializing_exposed(|| toml::to_string(&holder).unwrap());
        assert!(inside.contains("hunter2"));
        assert!(!toml::to_string(&holder).unwrap().contains("hunter2"));
    }

    #[test]
    fn uris_lose_their_credentials() {
        let cases = [
            ("amqp://fleet:hunter2@broker:5672/vhost", "amqp://***@broker:5672/vhost"),
            ("amqp://broker:5672/%2f", "amqp://broker:5672/%2f"),
            ("postgres://u:p@h/db?sslmode=require&password=x", "postgres://***@h/db?***"),
            ("amqps://u:p/w?d@broker", "amqps://***@broker"),
            ("user:p@ss@host:5672", "***@host:5672"),
            ("http://127.0.0.1:4317", "http://127.0.0.1:4317"),
            ("", ""),
        ];
        for (uri, expected) in cases {
            assert_eq!(redact_uri(uri), expected, "{uri}");
        }
    }
}
