//! Identities and names as types, parsed where they enter.
//!
//! Fresh random ids are made by `stoker_runtime::ids`, not here.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// An identifier or name that could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    #[error(
        "`{text}` is not a {kind} id: expected a UUID such as 0192f0c1-2d3e-7abc-8def-0123456789ab"
    )]
    Uuid { kind: &'static str, text: String },
    #[error(
        "`{text}` is not a valid {kind} name: use 1 to 63 characters of a-z, 0-9, `-`, `_` and `.`, \
         starting with a letter or digit"
    )]
    Name { kind: &'static str, text: String },
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }

            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text)
                    .map(Self)
                    .map_err(|_| ParseIdError::Uuid { kind: $kind, text: shorten(text) })
            }
        }
    };
}

uuid_id!(
    /// A job, a customer's unit of work. Version 7, so that ids sort by time of acceptance.
    JobId, "job"
);
uuid_id!(
    /// One run of a worker process, from registration to exit.
    WorkerId, "worker"
);
uuid_id!(
    /// One claim of one delivery; the same claim id always gets the same grant.
    ClaimId, "claim"
);
uuid_id!(
    /// An event in the outbox, stable over redeliveries to watchers and webhooks.
    EventId, "event"
);

uuid_id!(
    /// A machine that the fleet asked for, from before it exists. Version 7. It is the client token of the call
    /// that asks for it, and a tag of what comes of that.
    MachineId, "machine"
);

impl JobId {
    /// Not greater than any id that was made at this time or later: a job's id begins with 48 bits of
    /// milliseconds (UUID version 7). Times before 1970 count as 1970.
    pub fn first_of(time: Timestamp) -> Self {
        let millis = u64::try_from(time.as_unix_millis()).unwrap_or(0);
        Self::from_uuid(Uuid::from_u128(u128::from(millis & ((1 << 48) - 1)) << 80))
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks `text` against the rule that all names share (see [`ParseIdError::Name`]).
            pub fn new(text: &str) -> Result<Self, ParseIdError> {
                if is_name(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(ParseIdError::Name { kind: $kind, text: shorten(text) })
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// The fleet; part of every queue name, so that two fleets can share a broker.
    FleetName, "fleet"
);
name!(
    /// An entry of the model registry.
    ModelName, "model"
);
name!(
    /// A set of interchangeable workers.
    PoolName, "pool"
);
name!(
    /// A latency class with its SLA.
    ClassName, "class"
);
name!(
    /// Whose job it is.
    TenantName, "tenant"
);
name!(
    /// What could be launched, as `type.zone.capacity`.
    OfferingName, "offering"
);
name!(
    /// A part of a cloud that is asked on its own, such as `us-east-1`.
    RegionName, "region"
);
name!(
    /// A machine of the fleet, by the name that its provider gave it.
    InstanceName, "instance"
);

/// One try at a job, numbered from 1. Only grows, so it is the fencing number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(u32);

impl Attempt {
    pub const FIRST: Self = Self(1);

    /// The attempt with this number; `None` for 0, which means "never attempted".
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    pub const fn number(self) -> u32 {
        self.0
    }

    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How often a job was released to the broker. A message with an older number is stale.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct DispatchSeq(u32);

impl DispatchSeq {
    /// Never dispatched.
    pub const ZERO: Self = Self(0);

    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    pub const fn number(self) -> u32 {
        self.0
    }

    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Which reign of the fleet's leader wrote something. Only grows, so that a leader of the past is refused.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(u64);

impl Epoch {
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Random secret of one lease: the second half of the fence, beside the attempt number.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseToken(Uuid);

impl LeaseToken {
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseToken(redacted)")
    }
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let Some(first) = bytes.next() else { return false };
    text.len() <= 63
        && (first.is_ascii_lowercase() || first.is_ascii_digit())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

/// Names and ids in errors are cut, so that a hostile input cannot flood a log.
fn shorten(text: &str) -> String {
    const LIMIT: usize = 80;
    if text.chars().count() <= LIMIT {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(LIMIT).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_one_rule() {
        for good in ["a", "all-minilm-l6-v2", "bge-small-en-v1.5", "0x"] {
            assert!(ModelName::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", ".a", "A", "a b", "a/b", "ä", long.as_str()] {
            assert!(ModelName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_lease_token_never_reaches_debug_output() {
        let token = LeaseToken::from_bytes([7; 16]);
        assert_eq!(format!("{token:?}"), "LeaseToken(redacted)");
    }

    #[test]
    fn attempts_start_at_one() {
        assert_eq!(Attempt::new(0), None);
        assert_eq!(Attempt::new(1), Some(Attempt::FIRST));
        assert_eq!(Attempt::FIRST.next().number(), 2);
    }
}
