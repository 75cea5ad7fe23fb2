//! What a spot notice says. No I/O.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use stoker_core::departure::LONGEST_NOTICE;

/// What is done to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Terminate,
    Stop,
    /// Begins with the notice: there are no two minutes.
    Hibernate,
    /// One that this version does not know.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "terminate",
            Self::Stop => "stop",
            Self::Hibernate => "hibernate",
            Self::Unknown => "unknown",
        })
    }
}

/// A notice that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterruptionNotice {
    pub action: Action,
    /// How long the machine will be there; at most [`LONGEST_NOTICE`].
    pub left: Duration,
}

/// A notice without a meaning.
#[derive(Debug, thiserror::Error)]
#[error("not a notice of an interruption")]
pub struct UnreadableNotice(#[source] serde_json::Error);

#[derive(Deserialize)]
struct Document {
    action: Action,
    #[serde(default)]
    time: String,
}

impl InterruptionNotice {
    /// Reads the document of `spot/instance-action`. A time that cannot be read counts as the usual two
    /// minutes from `now`: that the machine is lost is the more important half.
    ///
    /// # Errors
    /// When it is no such document at all. It is not acted upon then: whatever answers is not the service
    /// that announces interruptions.
    pub fn read(text: &str, now: SystemTime) -> Result<Self, UnreadableNotice> {
        let Document { action, time } = serde_json::from_str(text).map_err(UnreadableNotice)?;
        let left = match (action, humantime::parse_rfc3339(&time)) {
            (Action::Hibernate, _) => Duration::ZERO,
            (_, Ok(time)) => time.duration_since(now).unwrap_or_default(),
            (_, Err(_)) => LONGEST_NOTICE,
        };
        Ok(Self { action, left: left.min(LONGEST_NOTICE) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<InterruptionNotice, UnreadableNotice> {
        let now = humantime::parse_rfc3339("2026-01-02T03:04:00Z").unwrap();
        InterruptionNotice::read(text, now)
    }

    fn left(text: &str) -> u64 {
        read(text).unwrap().left.as_secs()
    }

    #[test]
    fn the_time_that_is_left_is_read_and_never_more_than_a_notice_gives() {
        assert_eq!(left(r#"{"action":"terminate","time":"2026-01-02T03:05:30Z"}"#), 90);
        assert_eq!(left(r#"{"action":"stop","time":"2026-01-03T03:05:30Z","more":1}"#), 120);
        assert_eq!(left(r#"{"action":"terminate","time":"2026-01-02T03:00:00Z"}"#), 0, "past");
        assert_eq!(left(r#"{"action":"hibernate","time":"2026-01-02T03:05:30Z"}"#), 0, "begun");
    }

    #[test]
    fn a_notice_without_a_readable_time_is_a_notice_all_the_same() {
        assert_eq!(left(r#"{"action":"terminate","time":"soon"}"#), 120);
        assert_eq!(left(r#"{"action":"terminate"}"#), 120);
        let unknown = read(r#"{"action":"teleport","time":"2026-01-02T03:05:00Z"}"#).unwrap();
        assert_eq!((unknown.action, unknown.left.as_secs()), (Action::Unknown, 60));
    }

    #[test]
    fn what_is_no_notice_is_refused() {
        for text in ["", "not json", "{}", "[]", r#"{"action":7}"#, "<html></html>"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
