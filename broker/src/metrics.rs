//! Names, labels and meaning of everything the broker clients count.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::error::PublishError;
use crate::traits::Delivery;
use crate::wire::Malformed;

const PUBLISHES: &str = "stoker_broker_publishes_total";
const PUBLISH_SECONDS: &str = "stoker_broker_publish_seconds";
const DELIVERIES: &str = "stoker_broker_deliveries_total";
const PARKED: &str = "stoker_broker_parked_total";
const CONNECTED: &str = "stoker_broker_connected";
const BLOCKED: &str = "stoker_broker_blocked";
const DISCONNECTS: &str = "stoker_broker_disconnects_total";

/// Registers the descriptions; call once per process, after the recorder is installed.
pub fn describe() {
    describe_counter!(PUBLISHES, "Hints published, by outcome");
    describe_histogram!(
        PUBLISH_SECONDS,
        Unit::Seconds,
        "Time from publish to the broker's confirm"
    );
    describe_counter!(DELIVERIES, "Hints received, by whether they were delivered before");
    describe_counter!(PARKED, "Messages that were not hints of ours, by reason");
    describe_gauge!(CONNECTED, "1 while the connection stands, by role");
    describe_gauge!(BLOCKED, "1 while the broker blocks publishing for lack of memory or disk");
    describe_counter!(DISCONNECTS, "Connections lost or not made, by role");
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Publish,
    Consume,
}

impl Role {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Consume => "consume",
        }
    }
}

pub(crate) fn published(outcomes: &[Result<(), PublishError>], took: Duration) {
    histogram!(PUBLISH_SECONDS).record(took.as_secs_f64());
    for outcome in outcomes {
        let label = match outcome {
            Ok(()) => "confirmed",
            Err(PublishError::Unroutable { .. }) => "unroutable",
            Err(PublishError::Refused { .. }) => "refused",
            Err(PublishError::Disconnected { .. }) => "disconnected",
            Err(PublishError::Blocked { .. }) => "blocked",
            Err(PublishError::Stuck { .. }) => "stuck",
            Err(PublishError::Unconfirmed { .. }) => "unconfirmed",
            Err(PublishError::TimedOut { .. }) => "timed_out",
        };
        counter!(PUBLISHES, "outcome" => label).increment(1);
    }
}

pub(crate) fn delivered(delivery: &Delivery) {
    let label = if delivery.redelivered { "true" } else { "false" };
    counter!(DELIVERIES, "redelivered" => label).increment(1);
}

pub(crate) fn parked(reason: Malformed) {
    let label = match reason {
        Malformed::TooLong => "too_long",
        Malformed::Unreadable => "unreadable",
        Malformed::UnknownVersion => "unknown_version",
        Malformed::Misrouted => "misrouted",
    };
    counter!(PARKED, "reason" => label).increment(1);
}

pub(crate) fn connected(role: Role) {
    gauge!(CONNECTED, "role" => role.label()).set(1.0);
}

pub(crate) fn disconnected(role: Role) {
    gauge!(CONNECTED, "role" => role.label()).set(0.0);
    counter!(DISCONNECTS, "role" => role.label()).increment(1);
}

pub(crate) fn blocked() {
    gauge!(BLOCKED).set(1.0);
}

pub(crate) fn unblocked() {
    gauge!(BLOCKED).set(0.0);
}
