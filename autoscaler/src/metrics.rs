//! The autoscaler's metrics: names, and the only places that record them.

use metrics::{Unit, counter, describe_counter};

use crate::cloud::{ErrorClass, Verb};

/// Calls to a cloud, by what was asked and how it went; each try counts.
const CALLS: &str = "stoker_cloud_calls_total";

/// Explains the metrics to whoever collects them.
pub fn describe() {
    describe_counter!(CALLS, Unit::Count, "Calls to the cloud, by verb and outcome");
}

/// A try at a call ended; `failure` is the class of its error.
pub(crate) fn called(verb: Verb, failure: Option<ErrorClass>) {
    let outcome = failure.map_or("ok", ErrorClass::as_str);
    counter!(CALLS, "verb" => verb.as_str(), "outcome" => outcome).increment(1);
}
