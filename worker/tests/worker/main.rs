//! Whole workers against a coordinator that misbehaves on request, with real engine processes.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod drains;
mod engines;
mod fake;
mod jobs;
mod outages;
mod queue;
mod rig;
mod world;
