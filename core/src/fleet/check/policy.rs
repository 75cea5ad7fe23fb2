//! Checks when attempts are repeated, and how long leases last.

use std::time::Duration;

use crate::fleet::spec::FleetSpec;
use crate::policy::{JobPolicy, LeasePolicy, RetryPolicy};

use super::Problems;

impl Problems {
    pub(super) fn policy(&mut self, spec: &FleetSpec) -> JobPolicy {
        let retry = retry_policy(spec);
        for (key, count) in [
            ("retry.max-failures", retry.max_failures),
            ("retry.max-crashes", retry.max_crashes),
            ("retry.max-lost-workers", retry.max_lost_workers),
        ] {
            if count == 0 {
                self.add(key, "must be at least 1: the first attempt counts");
            }
        }
        if retry.base_delay > retry.max_delay {
            self.add("retry.base-delay", "must not be longer than retry.max-delay");
        }
        let lease = lease_policy(spec);
        if lease.heartbeat.is_zero() || lease.heartbeat.saturating_mul(3) > lease.ttl {
            self.add("lease.heartbeat", "must be above 0s and fit three times into lease.ttl");
        }
        if lease.disconnect_grace > lease.ttl {
            self.add("lease.disconnect-grace", "must not be longer than lease.ttl");
        }
        if lease.redispatch_after < Duration::from_secs(1) {
            self.add("lease.redispatch-after", "must be at least 1s: messages take their time");
        }
        if lease.max_runtime < lease.ttl {
            self.add("lease.max-runtime", "must be at least as long as lease.ttl");
        }
        JobPolicy { retry, lease }
    }
}

fn retry_policy(spec: &FleetSpec) -> RetryPolicy {
    let default = RetryPolicy::default();
    let retry = &spec.retry;
    RetryPolicy {
        max_failures: retry.max_failures.unwrap_or(default.max_failures),
        max_crashes: retry.max_crashes.unwrap_or(default.max_crashes),
        max_lost_workers: retry.max_lost_workers.unwrap_or(default.max_lost_workers),
        base_delay: retry.base_delay.map_or(default.base_delay, Into::into),
        max_delay: retry.max_delay.map_or(default.max_delay, Into::into),
    }
}

fn lease_policy(spec: &FleetSpec) -> LeasePolicy {
    let default = LeasePolicy::default();
    let lease = &spec.lease;
    LeasePolicy {
        ttl: lease.ttl.map_or(default.ttl, Into::into),
        heartbeat: lease.heartbeat.map_or(default.heartbeat, Into::into),
        disconnect_grace: lease.disconnect_grace.map_or(default.disconnect_grace, Into::into),
        cancel_grace: lease.cancel_grace.map_or(default.cancel_grace, Into::into),
        redispatch_after: lease.redispatch_after.map_or(default.redispatch_after, Into::into),
        max_runtime: lease.max_runtime.map_or(default.max_runtime, Into::into),
    }
}
