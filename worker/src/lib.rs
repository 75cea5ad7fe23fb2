//! The worker: takes deliveries, runs engines, reports results.
